// The search's answer, in the words of the command that found it.
const COPIED = { answer: "Copy code", export: "Copy command" };

function showAnswer() {
  const box = byId("answer");
  const rows = study().block;
  box.hidden = !rows.length;
  if (!rows.length) return;
  const copied = (name, text) => (name === "answer" ? text.split(",")[0].split(" ").pop() : text);
  const value = ([name, text]) => element("dd", { class: name === "answer" || name === "export" || name === "best" ? "code" : null },
    text, COPIED[name] ? [" ", copyButton(copied(name, text), COPIED[name])] : []);
  box.replaceChildren(element("h2", { text: "The answer" }),
    element("dl", { class: "facts" }, rows.map((row) => [element("dt", { text: row[0] }), value(row)])));
}

whenChanged("study", showAnswer);
