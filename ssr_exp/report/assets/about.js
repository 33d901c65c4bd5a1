// What a study is and took: recipe, seeds, versions, hours, failures.
function leaves(fields, prefix = "") {
  return Object.entries(fields).flatMap(([name, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value) ? leaves(value, `${prefix}${name}.`) : [[`${prefix}${name}`, Array.isArray(value) ? value.map(listed).join(", ") : String(value ?? "") || "none"]]);
}

const listed = (item) => (item !== null && typeof item === "object" ? JSON.stringify(item) : item);

const factList = (pairs) => element("dl", { class: "facts" }, pairs.map(([name, value]) => [element("dt", { text: name }), element("dd", { text: value })]));

function answerCard() {
  const answer = study().answer;
  if (!answer || !answer.results?.length) return null; // nothing was tested
  const names = ["role", "network", "parameters", "of baseline", `test ${judged().unit}`.trim(), "\u00b1", "seeds"];
  const head = element("tr", {}, names.map((name, i) => element("th", { scope: "col", class: i < 2 ? "text" : null, text: name })));
  const body = answer.results.map((row) => element("tr", {}, [
    row.role, `${row.model === study().model ? "" : `${row.model} `}${row.network}`, whole.format(row.params), percent(row.params_share),
    numbered(row.test_score_mean, judged()), isNumber(row.test_score_std) ? numbered(row.test_score_std, judged()) : "", (row.seeds || []).length,
  ].map((text, i) => element("td", { class: i < 2 ? "text" : null, text: String(text) }))));
  const learnt = answer.learnt ? `trained on ${answer.learnt}; ` : "";
  return element("div", { class: "card" }, element("h2", { text: `The search's answer: ${learnt}${testedWords(answer.results)} tested` }),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Finalists" }, element("table", {}, element("thead", {}, head), element("tbody", {}, body))),
    ...(isTheBaseline() ? [element("p", { class: "note", text: `${answer.verdict ? "No network that keeps to the caps" : "No smaller network"} was good enough, so the answer is the baseline itself.` })] : [
      element("p", { class: "note", text: `${judged().title} drop ${dropped(answer.drop, judged())} on ${answer.measured_on}.` }), promiseNote()].filter(Boolean)));
}

// How many networks the test images were looked at for; the table has answers and what they were compared with.
function testedWords(rows) {
  const finals = study().networks.filter((n) => isFinalist(n) && n.test_score);
  const amount = Math.max(study().answer.networks_tested ?? 0, amountOf(finals), amountOf(rows.map((row) => ({ model: row.model, code: row.network }))));
  return `${counted(amount, "network")} ${amount === 1 ? "was" : "were"}`;
}

const isTheBaseline = () => study().networks.some((n) => n.code === study().handed_over?.network && n.model === study().model && n.params === study().baseline.params && n.macs === study().baseline.macs);

function promiseNote() {
  const said = new Map(study().block).get("promise");
  return said ? element("p", { class: "note", text: `Promise: ${sentence(said)}` }) : null;
}

function classesCard() {
  const classes = study().classes;
  if (!classes) return null;
  const told = classes.networks.flatMap((network) => classes.columns.map((column) => `${network.kind === "baseline" ? "baseline" : network.code}, seed ${network.seed}: ${column}\u00a0%`));
  const head = element("tr", {}, ["class", `${classes.of} of val`, ...told].map((name, i) => element("th", { scope: "col", class: i ? "wrap" : "text", text: name })));
  const body = classes.names.map((name, i) => element("tr", {}, element("td", { class: "text", text: name }), element("td", { text: whole.format(classes.amounts[i]) }),
    classes.networks.flatMap((network) => network.values[i]).map((value) => element("td", { text: isNumber(value) ? fixed(value) : "" }))));
  return element("div", { class: "card" }, element("h2", { text: "Classes, on val" }),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Classes" }, element("table", {}, element("thead", {}, head), element("tbody", {}, body))));
}

function pictureCard() {
  if (!study().picture) return null;
  const columns = "Images, their true masks, and the masks that the answer predicts";
  return element("div", { class: "card" }, element("h2", { text: "What the answer sees" }), element("img", { class: "picture", src: study().picture, alt: columns }),
    element("p", { class: "note", text: `${columns}, of images that it did not learn from.` }));
}

function failuresCard() {
  const failed = study().runs.filter((run) => run.status !== "finished");
  const title = element("h2", { text: "Failed and diverged runs" });
  if (!failed.length) return element("div", { class: "card" }, title, element("p", { class: "note", text: "None." }));
  const head = element("tr", {}, ["network", "seed", "status", "why"].map((name) => element("th", { scope: "col", class: "text", text: name })));
  const body = failed.map((run) => element("tr", {}, [
    element("td", { class: "text code", text: run.network }), element("td", { class: "text", text: run.seed }),
    element("td", { class: "text", text: run.status }), element("td", { class: "text wrap", text: run.error || "no error was recorded" }),
  ]));
  return element("div", { class: "card" }, title, element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Failed runs" }, element("table", {}, element("thead", {}, head), element("tbody", {}, body))));
}

function dataCard() {
  const lines = study().about.reading;
  if (!lines.length || study().by_loop) return null;
  return element("div", { class: "card" }, element("h2", { text: "Images that were read" }), lines.map((text) => element("p", { class: "note", text })));
}

function showAbout() {
  if (state.tab !== "about") return;
  const about = study().about;
  const list = (values) => values.join(", ") || (study().by_loop ? "not told by the loop" : "not known");
  const took = [
    ["runs", Object.entries(about.statuses).map(([status, amount]) => `${amount} ${status}`).join(", ")],
    ["device time", `${duration(3600 * about.hours)} in all`], ["first, last started", `${moment(about.first)}, ${moment(about.last)} UTC`],
    ["devices", list(Object.entries(about.devices).map(([device, amount]) => `${device} (${counted(amount, "run")})`))],
    ["seeds", list(about.seeds)], ["epochs", list(about.epochs)], ["precision", list(about.precisions)], ["commits", list(about.commits)],
    ...Object.entries(about.versions).map(([name, versions]) => [name, versions.join(", ")]),
  ];
  const segments = study().segments.map((s) => [s.name, `${counted(s.blocks, "block")}, ${whole.format(s.channels)} channels`]);
  byId("about").replaceChildren(...[answerCard(), pictureCard(), classesCard(),
    element("div", { class: "halves" },
      element("div", { class: "card" }, element("h2", { text: "What it took" }), factList(took)),
      element("div", { class: "card" }, element("h2", { text: "Seed network" }), factList([["model", study().model], ["parameters", whole.format(study().baseline.params)], ["MACs", whole.format(study().baseline.macs)], ["GeMMs", whole.format(study().baseline.gemms)], ...segments]))),
    dataCard(),
    element("div", { class: "card" }, element("h2", { text: "Recipe, data and all else that makes runs comparable" }), Object.keys(study().about.fields).length ? factList(leaves(study().about.fields)) : element("p", { class: "note", text: "The study's study.json is missing or damaged." })),
    failuresCard()].filter(Boolean));
}

whenChanged("study tab", showAbout);
