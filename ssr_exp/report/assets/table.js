// All networks as a table, and their trainings as a file.
const FIRST_ROWS = 150;

function columns() {
  const full = study().baseline;
  const mean = (metric) => (n) => (n[metric] ? n[metric][0] : null);
  const write = (value) => numbered(value, judged());
  const unit = judged().unit;
  const timed = study().settings.map((setting, s) => ({
    id: `latency${s}`, name: `ms, ${shortSetting(setting)}`, title: `${setting} (~: predicted, not measured)`, of: (n) => n.latency[s], write: (v, n) => `${guessed(n, s)}${Number(v.toPrecision(4))}`,
  }));
  const drop = (n) => { const base = baseline("score", isFinalist(n)); return base && n.score ? dropOf(n.score[0], base.mean) : null; };
  return [
    { id: "code", name: "network", text: true, of: (n) => n.code },
    { id: "kind", name: "kind", text: true, of: kindOf },
    { id: "params", name: "parameters", of: (n) => n.params, write: whole.format },
    { id: "share", name: "of baseline", of: (n) => n.params / full.params, write: percent },
    { id: "macs", name: "MACs", of: (n) => n.macs, write: short },
    { id: "macs_share", name: "of baseline", of: (n) => n.macs / full.macs, write: percent },
    { id: "gemms", name: "GeMMs", of: (n) => n.gemms, write: whole.format },
    ...timed,
    { id: "score", name: `val ${unit}`.trim(), title: `${judged().heading}, mean over all of the network's trainings that did not learn from val`, of: mean("score"), write },
    { id: "std", name: "\u00b1", title: "standard deviation of the score on val over seeds", of: (n) => (n.score ? n.score[1] : null), write },
    { id: "drop", name: "drop", title: `${judged().unit_of_drops} worse than the baseline, on val`.trim(), of: drop, write },
    { id: "test_score", name: `test ${unit}`.trim(), title: "mean \u00b1 standard deviation over seeds", of: mean("test_score"), write: (value, n) => [value, n.test_score[1]].filter(isNumber).map(write).join(" \u00b1 ") },
    { id: "seeds", name: "runs", title: "trainings that finished; 1 of 3: the two others, which val is the mean of, too, are of the network's other row", of: (n) => n.seeds.length, write: (value, n) => (n.val_seeds?.length > value ? `${value} of ${n.val_seeds.length}` : String(value)) },
    { id: "wall_s", name: "time", of: (n) => n.wall_s, write: duration },
  ];
}

function rows() {
  const phrase = state.filter.trim().toLowerCase();
  const words = phrase.split(/\s+/).filter(Boolean);
  const text = (n) => `${n.code} ${kindOf(n)} ${n.status}`.toLowerCase();
  const isPhrase = study().networks.some((n) => text(n).includes(phrase)); // such as "round 2"
  const matches = (n) => (isPhrase ? text(n).includes(phrase) : words.every((word) => text(n).includes(word)));
  const [id, given] = state.sort;
  const direction = given ?? -judged().sign; // the best first
  const column = columns().find((one) => one.id === id) || columns()[0];
  const compare = (a, b) => {
    const [x, y] = [column.of(a), column.of(b)];
    if (x === null || x === undefined) return y === null || y === undefined ? 0 : 1;
    if (y === null || y === undefined) return -1;
    return direction * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y);
  };
  return study().networks.filter(matches).sort((a, b) => compare(a, b) || a.params - b.params);
}

function sortBy(id) {
  const [before, given] = state.sort;
  const direction = given ?? -judged().sign;
  const isText = id === "code" || id === "kind";
  const isScore = id === "score" || id === "test_score";
  state.sort = [id, before === id ? -direction : isText ? 1 : isScore ? -judged().sign : -1];
  changed("table");
  byId("networks").querySelector(`th[data-column="${id}"] button`).focus();
}

function showTable() {
  const shown = columns();
  const found = rows();
  const best = new Set(measuredFront());
  const own = taken().own;
  const head = element("tr", {}, element("th", { class: "text", scope: "col", text: "pin" }), shown.map((one) => element("th", {
    scope: "col", "data-column": one.id, class: one.text ? "text" : null, title: one.title,
    "aria-sort": state.sort[0] === one.id ? ((state.sort[1] ?? -judged().sign) > 0 ? "ascending" : "descending") : "none",
  }, element("button", { type: "button", text: one.name, onclick: () => sortBy(one.id) }))));
  const visible = state.all ? found : found.slice(0, FIRST_ROWS);
  const body = visible.map((network) => {
    const box = element("input", { type: "checkbox", "aria-label": `Pin ${network.code}`, onchange: () => pin(network) });
    box.checked = isPinned(network);
    const cells = shown.map((one) => {
      const value = one.of(network);
      if (one.id === "code") return element("td", { class: "text code" }, element("span", { class: "name", title: value, text: network.short }), best.has(network) ? " * " : " ", copyButton(value, "copy"));
      return element("td", { class: one.text ? "text" : null, text: value === null || value === undefined ? "" : one.text ? value : one.write(value, network) });
    });
    const marks = [best.has(network) ? "front" : "", network === own ? "taken" : ""].filter(Boolean).join(" ");
    return element("tr", { class: marks || null, "data-key": network.key }, element("td", { class: "text" }, box), cells);
  });
  byId("networks").replaceChildren(element("thead", {}, head), element("tbody", {}, body));
  const again = amountOf(visible) < visible.length ? ", finalists once more in rows of their own" : "";
  byId("count").textContent = `${counted(amountOf(visible), "network")} of ${whole.format(amountOf(study().networks))}${again}; * no cheaper one is as ${judged().word === "accuracy" ? "accurate" : "good"} (${axis().name}).`;
  byId("more").hidden = visible.length === found.length && !(state.all && found.length > FIRST_ROWS);
  byId("more").textContent = state.all ? "Show fewer" : `Show all ${counted(found.length, "row")}`;
}

// A spreadsheet must not take a text for a formula.
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv() {
  const keys = new Set(rows().map((n) => `${n.code}:${isFinalist(n)}`));
  const names = ["network", "study", "kind", "round", "seed", "epochs", "status", "score", "best_score", "val_loss", "test_score", "latency_ms", "latency_device", "wall_s", "device", "started_at", "error"];
  const costs = ["params", "macs", "gemms"];
  const timed = study().settings.map((setting) => `ms: ${setting}`);
  const byCode = new Map(study().networks.map((n) => [n.code, n]));
  const more = (n) => [...costs.map((name) => n[name]), n.blocks.join("-"), n.widths.join("-")];
  const lines = study().runs.filter((run) => keys.has(`${run.network}:${run.kind === "finalist"}`))
    .map((run) => [...names.map((name) => run[name]), ...more(byCode.get(run.network)), ...run.latency]);
  return [[...names, ...costs, "blocks", "channels", ...timed], ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

function download() {
  const link = element("a", { href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })), download: `${study().name.replace(/[^\w.-]+/g, "-")}.csv` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function markPins() {
  for (const row of byId("networks").querySelectorAll("tbody tr")) {
    row.querySelector("input").checked = state.pins.includes(row.dataset.key);
  }
}

byId("filter").addEventListener("input", (event) => { state.filter = event.target.value; changed("table"); });
byId("more").addEventListener("click", () => { state.all = !state.all; changed("table"); });
byId("csv").addEventListener("click", download);
whenChanged("study axis metric table settled", showTable);
whenChanged("pins", markPins);
