// The search's answer, in the words of the command that found it.
const DOUBTS = ["warning", "noise"]; // rows
const COPIED = { answer: "Copy code", export: "Copy command" };

function showAnswer() {
  const box = byId("answer");
  const rows = study().block;
  const warnings = study().warnings.map((text) => element("p", { class: "warning", text: sentence(text) }));
  box.hidden = !rows.length && !warnings.length;
  if (box.hidden) return;
  if (!rows.length) {
    box.replaceChildren(element("h2", { text: "Before an answer is believed" }), ...warnings);
    return;
  }
  const copied = (name, text) => (name === "answer" ? text.split(",")[0].split(" ").pop() : text);
  const value = ([name, text]) => element("dd", { class: name === "answer" || name === "export" || name === "best" ? "code" : DOUBTS.includes(name) ? "warning" : null },
    text, COPIED[name] ? [" ", copyButton(copied(name, text), COPIED[name])] : []);
  box.replaceChildren(element("h2", { text: "The answer" }),
    element("dl", { class: "facts" }, rows.map((row) => [element("dt", { text: row[0] }), value(row)])), ...warnings);
}

whenChanged("study", showAnswer);
