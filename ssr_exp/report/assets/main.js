// The page itself: choose a study and a view; the address keeps both, and the pins.
const USUAL = { axis: null, scale: "log", metric: "auto", colour: "kind" };
const recalled = { drop: null, cap: null }; // of the address
const TABS = ["trade", "surrogate", "about"];

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text, title]) => {
    const option = element("option", { value, text, title });
    option.selected = value === chosen;
    return option;
  }));
}

function showTab() {
  for (const name of TABS) {
    const tab = byId(`tab-${name}`);
    const chosen = name === state.tab;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    byId(name).hidden = !chosen;
  }
}

function showStudy() {
  const one = study();
  document.title = `${subject(one)}: trade-offs`;
  const counts = Object.entries(one.about.statuses).map(([status, amount]) => `${whole.format(amount)} ${status}`).join(", ");
  byId("summary").textContent = `${subject(one)}: ${counted(amountOf(one.networks), "network")}, ${counted(one.runs.length, "training")} (${counts}); ${duration(3600 * one.about.hours)} of device time. Made ${moment(DATA.created_at)} UTC.`;
  options(byId("axis"), axes().map((a) => [a.id, a.name, a.title]), axis().id);
  options(byId("metric"), Object.entries(METRICS), state.metric);
}

function choose(number) {
  state.study = number;
  state.pins = state.pins.filter((key) => everything().some((network) => network.key === key));
  Object.assign(state, { hidden: new Set(), cap: recalled.cap, drop: recalled.drop ?? allowedDrop(), all: false, filter: "" });
  Object.assign(recalled, { drop: null, cap: null });
  byId("filter").value = "";
  if (!axisNamed(state.axis)) state.axis = null;
  if (!isMeasured(state.metric)) state.metric = Object.keys(METRICS).find(isMeasured) ?? USUAL.metric;
  showStudy();
  changed("study");
}

const allowedDrop = () => study().predictions?.max_drop ?? usualDrop();

// What a search allows where nobody says: a point of percent, else 2 % of the baseline.
function usualDrop() {
  const full = baseline("score") || baseline("test_score");
  return judged().unit === "%" || !full ? 1 : Math.abs(full.mean) / 50;
}

function remember() {
  const kept = new URLSearchParams({ study: study().name, view: state.tab });
  for (const name of ["axis", "scale", "metric", "colour"]) if (state[name] !== USUAL[name]) kept.set(name, state[name]);
  if (!isAllowed(state.drop)) kept.set("drop", state.drop); // else it is the search's, whatever that is by then
  if (state.cap !== null) kept.set("cap", state.cap);
  if (state.pins.length) kept.set("pins", state.pins.join(" "));
  history.replaceState(null, "", `#${kept}`);
}

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  if (TABS.includes(kept.get("view"))) state.tab = kept.get("view");
  if (kept.get("axis")) state.axis = kept.get("axis");
  for (const [name, known] of [["scale", ["log", "value"]], ["metric", Object.keys(METRICS)], ["colour", ["kind", "round"]]]) {
    if (known.includes(kept.get(name))) state[name] = kept.get(name);
    byId(name).value = state[name];
  }
  for (const name of ["drop", "cap"]) {
    const value = Number.parseFloat(kept.get(name));
    recalled[name] = value >= 0 && (name === "drop" || value <= STEPS) ? value : null;
  }
  state.pins = (kept.get("pins") || "").split(" ").filter(Boolean);
  return Math.max(0, DATA.studies.findIndex((one) => one.name === kept.get("study")));
}

function walkTabs(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = TABS[(TABS.indexOf(state.tab) + step + TABS.length) % TABS.length];
  byId(`tab-${next}`).click();
  byId(`tab-${next}`).focus();
}

for (const name of TABS) {
  byId(`tab-${name}`).addEventListener("click", () => { state.tab = name; showTab(); changed("tab"); });
  byId(`tab-${name}`).addEventListener("keydown", walkTabs);
}
for (const name of ["axis", "scale", "metric", "colour"]) {
  byId(name).addEventListener("change", (event) => {
    state[name] = event.target.value;
    if (name === "axis") state.cap = null;
    if (name === "colour") state.hidden = new Set();
    changed(name);
  });
}
byId("show-lattice").addEventListener("change", (event) => { state.lattice = event.target.checked; changed("lattice"); });
byId("study").addEventListener("change", (event) => choose(Number(event.target.value)));
byId("drop").addEventListener("change", () => changed("settled"));
byId("cap").addEventListener("change", () => changed("settled"));
byId("controls").addEventListener("submit", (event) => event.preventDefault());
whenChanged("study tab axis scale metric colour pins settled", remember);
addEventListener("hashchange", () => location.reload()); // another address was typed
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); byId("content").focus(); });

byId("footer").textContent = `ssr_exp ${DATA.version}. Ctrl and the wheel zoom the chart, dragging moves it. Charts: Apache ECharts.`;
if (DATA.studies.length) {
  const first = recall();
  options(byId("study"), DATA.studies.map((one, i) => [String(i), one.title === one.name ? one.name : `${one.title} (${one.name})`]), String(first));
  showTab();
  choose(first);
  changed("tab");
} else {
  byId("content").replaceChildren(element("div", { class: "card" }, element("h2", { text: "No runs yet" }), element("p", { text: "This folder holds no records. ssr train or ssr search make some; this page is written again at their end." })));
}
root.dataset.ready = "true";
