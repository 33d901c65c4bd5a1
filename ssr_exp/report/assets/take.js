// Which network to take: the cheapest one within a drop of score and a limit on cost.
const STEPS = 1000;

function costRange() {
  const values = everything().map(axis().of).filter((value) => isNumber(value) && value > 0);
  return [Math.min(...values), Math.max(...values, axis().full || 0)];
}

const capValue = () => {
  const [low, high] = costRange();
  return state.cap === null ? high : low * (high / low) ** (state.cap / STEPS);
};

function largestDrop() {
  const full = baseline();
  if (!full) return state.drop || 1;
  const lost = drops();
  const worst = Math.max(0, ...comparable().map((n) => lost(n, scoreOf(n, comparedBy()).mean)));
  return judged().unit === "%" ? Math.min(20, Math.max(2, Math.ceil(worst))) : worst || Math.abs(full.mean) || 1;
}

// What floating point may add to a drop, as `verdict.is_kept` allows; of errors far below 1, too.
const slack = (drop) => Math.max(1e-9 * drop, 1e-12);

// How likely a network loses no more on test than the slider allows; null where nobody says.
function keeping(network) {
  const told = study().predictions;
  if (!told || !isNumber(told.confidence) || comparedBy() !== "score") return null;
  const one = network.expected ? network.lost : told.promises.find((promise) => promise.network === network.code);
  if (!one) return null;
  return one.sigma > 0 ? (1 + erf((state.drop - one.drop) / one.sigma / Math.SQRT2)) / 2 : Number(one.drop <= state.drop);
}

// As the answer is chosen: at even odds scores decide, above the promise, too; the baseline is none. An untrained network
// of which nobody says how likely it is, is not named where that is asked for.
function isPromised(network) {
  const [sure, share] = [study().predictions?.confidence, keeping(network)];
  if (share === null) return !(network.expected && sure > 0.5);
  return network.kind === "baseline" || sure <= 0.5 || share >= sure;
}

// A network whose latency nobody knows is not within a cap on it.
const capAxis = (name) => axisNamed(name === "latency_ms" ? `latency${study().settings.indexOf(study().predictions.latency)}` : name);
const caps = () => Object.entries(study().predictions?.caps ?? {}).map(([name, most]) => [capAxis(name), most]).filter(([one]) => one);
const isWithinCaps = (network) => caps().every(([one, most]) => isNumber(one.of(network)) && one.of(network) <= most * (1 + 1e-9));

function capsNote() {
  const words = caps().map(([one, most]) => `${one.name} at most ${one.write(one.title ? most : Math.floor(most))}${one.full ? ` (${percent(most / one.full)} of the baseline's)` : ""}`);
  return words.length ? element("p", { class: "note", text: `Caps of the search: ${words.join(", ")}.` }) : null;
}

function taken() {
  const full = baseline();
  if (!full) return { full: null, own: null, expected: null };
  const lost = drops();
  const most = state.drop + slack(state.drop);
  const cap = capValue() * (1 + 1e-9);
  const cheapest = (networks, score) => networks
    .filter((n) => isNumber(axis().of(n)) && axis().of(n) <= cap && lost(n, score(n)) <= most && isWithinCaps(n) && isPromised(n))
    .sort((a, b) => axis().of(a) - axis().of(b) || goodness(score(b) - score(a)))[0] || null;
  const handed = isUnmoved() ? handedOver() : null; // until somebody asks for something else
  const own = handed || cheapest(comparable(), (n) => scoreOf(n, comparedBy()).mean);
  const known = new Set(study().networks.map((n) => n.code));
  const named = handed && study().answer?.untrained?.network; // then one rule, the search's
  const expected = handed ? study().points.find((p) => p.code === named && !known.has(p.code)) : comparedBy() === "score" ? cheapest(study().points.filter((p) => !known.has(p.code)), (p) => p.expected[1]) : null;
  const better = expected && (handed || !own || axis().of(expected) < axis().of(own)) ? expected : null;
  return { full, own, expected: better };
}

const pinWord = (key) => (state.pins.includes(key) ? "Unpin" : "Pin");

function markTaken() {
  for (const button of byId("take").querySelectorAll("[data-pin]")) button.textContent = pinWord(button.dataset.pin);
}

function showTake() {
  const one = axis();
  const drop = byId("drop");
  const furthest = Math.max(largestDrop(), state.drop);
  Object.assign(drop, { min: 0, max: furthest, step: judged().unit === "%" ? 0.01 : 10 ** Math.floor(Math.log10(furthest / STEPS)) });
  byId("drop-name").textContent = judged().title;
  drop.value = state.drop;
  byId("drop-value").textContent = dropped(state.drop, judged());
  const cap = byId("cap");
  Object.assign(cap, { min: 0, max: STEPS, step: 1 });
  cap.value = state.cap === null ? STEPS : state.cap;
  byId("cap-name").textContent = one.name;
  const value = capValue();
  byId("cap-value").textContent = one.full ? `${one.write(value)} (${percent(value / one.full)})` : one.write(value);
  for (const name of ["drop", "cap"]) byId(name).setAttribute("aria-valuetext", byId(`${name}-value`).textContent);
  const { full, own, expected } = taken();
  const answer = study().answer;
  const box = byId("take");
  if (!full) {
    box.replaceChildren(element("p", { class: "note", text: `No finished baseline was measured on ${comparedBy() === "test_score" ? "test" : "val"} yet, so there is nothing to compare with.` }));
    return;
  }
  const handed = handedOver();
  const parts = handed ? [found(`The study's answer: ${standing(answer)}`, handed, toldOf(handed)), tested(handed), against(answer)] : [];
  if (!handed || !isUnmoved()) {
    const title = handed ? "Measured on val, by the sliders" : "Measured";
    parts.push(own ? found(title, own, [toldOf(own), likelihood(own)].filter(Boolean).join("; ")) : element("p", { class: "warning", text: `No trained network keeps to both limits${isNumber(study().predictions?.confidence) ? " with that confidence" : ""}: allow a larger drop or a higher cost.` }));
    parts.push(own && tested(own));
  }
  if (expected) parts.push(found("Predicted to be enough, not trained yet", expected, [expects(expected), likelihood(expected)].filter(Boolean).join("; ")));
  if (answer) parts.push(element("p", { class: "note", text: confidenceNote() }));
  parts.push(capsNote());
  box.replaceChildren(...parts.filter(Boolean));
}

// The network in best/, as it was searched; as a finalist, if it was trained as nothing else.
function handedOver() {
  const named = study().handed_over;
  const same = study().networks.filter((n) => named && n.code === named.network && n.model === named.model && scoreOf(n, comparedBy()));
  return same.find((n) => !isFinalist(n)) || same[0] || null;
}

const isAllowed = (drop) => Math.abs(drop - allowedDrop()) <= slack(allowedDrop());
const isUnmoved = () => state.cap === null && isAllowed(state.drop);
const standing = (answer) => (answer?.kept === true ? "tested" : answer?.kept === false ? "tested, and it lost too much" : answer?.measured_on === "test" ? "tested" : "measured on val, not tested");
const toldOf = (network) => `on ${scoreOf(network, comparedBy()).on}: ${scored(network, comparedBy())}${comparedBy() === "test_score" ? "" : meanOf(network)}`;
const against = (answer) => (answer?.verdict ? element("p", { class: "warning", text: sentence(answer.verdict) }) : null);
const likelihood = (network) => (keeping(network) === null || network.kind === "baseline" ? "" : `${likely(keeping(network))} likely to lose no more on test`);

function confidenceNote() {
  const sure = study().predictions?.confidence;
  if (!isNumber(sure)) return "The sliders go by scores alone, luck included: they do not count confidence, as the answer does.";
  const candidates = (study().answer.results || []).filter((row) => /^(answer|finalist)/.test(row.role)); // others are arms
  const chosen = candidates.length > 1 ? `; the answer is one of ${candidates.length} that were tested, so test chose it, too` : "";
  return `The sliders ask of val alone for a confidence of ${likely(sure)}, as the search did${chosen}.`;
}

function tested(network) {
  const final = study().networks.find((n) => isFinalist(n) && n.code === network.code && n.model === network.model);
  if (!final || !final.test_score) return null;
  const full = baseline("test_score", true);
  const over = full && dropOf(final.test_score[0], full.mean) > state.drop + slack(state.drop);
  return element("p", { class: over ? "warning" : "note", text: `As a finalist, on test: ${scored(final, "test_score")} (${counted(final.seeds.length, "seed")})${over ? ": more than you allow" : ""}.` });
}

function found(title, network, score) {
  if (!network) return element("div");
  const one = axis();
  const value = one.of(network);
  const costs = isNumber(value) ? `${one.name}: ${one.write(value, network)}${one.full ? `, ${percent(value / one.full)} of the baseline's` : ""}` : `${one.name}: not known`;
  const words = study().train.replace(/(network=|enqueue\(')CODE/, (_, before) => before + network.code);
  return element("div", { class: "found" }, element("h3", { text: title }), element("div", { class: "code", text: network.code }),
    element("div", { text: costs }),
    element("div", { text: score }), drawing(network),
    element("div", { class: "actions" }, copyButton(network.code), ...(network.expected ? [copyButton(words, "Copy what trains it")] : []),
      element("button", { type: "button", class: "link", "data-pin": network.key, text: pinWord(network.key), onclick: () => pin(network) })));
}

byId("drop").addEventListener("input", (event) => { state.drop = Number(event.target.value); changed("take"); });
byId("cap").addEventListener("input", (event) => { state.cap = Number(event.target.value) === STEPS ? null : Number(event.target.value); changed("take"); });
whenChanged("study axis metric take", showTake);
whenChanged("pins", markTaken);
