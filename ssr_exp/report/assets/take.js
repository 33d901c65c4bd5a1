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
  const worst = Math.max(0, ...comparable().map((n) => dropOf(scoreOf(n, comparedBy()).mean, full.mean)));
  return judged().unit === "%" ? Math.min(20, Math.max(2, Math.ceil(worst))) : worst || Math.abs(full.mean) || 1;
}

function taken() {
  const full = baseline();
  if (!full) return { full: null, own: null, expected: null };
  const most = state.drop + 1e-9;
  const cap = capValue() * (1 + 1e-9);
  const cheapest = (networks, score) => networks
    .filter((n) => isNumber(axis().of(n)) && axis().of(n) <= cap && dropOf(score(n), full.mean) <= most)
    .sort((a, b) => axis().of(a) - axis().of(b) || goodness(score(b) - score(a)))[0] || null;
  const own = cheapest(comparable(), (n) => scoreOf(n, comparedBy()).mean);
  const known = new Set(study().networks.map((n) => n.code));
  const expected = comparedBy() === "score" ? cheapest(study().points.filter((p) => !known.has(p.code)), (p) => p.expected[1]) : null;
  const better = expected && (!own || axis().of(expected) < axis().of(own)) ? expected : null;
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
  const parts = [found(answer ? "Measured, by the sliders" : "Measured", own, own ? scored(own, comparedBy()) : "")];
  if (!own) parts[0] = element("p", { class: "warning", text: "No trained network keeps to both limits: allow a larger drop or a higher cost." });
  const final = own && study().networks.find((n) => isFinalist(n) && n.code === own.code && n.model === own.model);
  if (final && final.test_score) {
    const tested = baseline("test_score");
    const over = tested && dropOf(final.test_score[0], tested.mean) > state.drop;
    parts.push(element("p", { class: over ? "warning" : "note", text: `As a finalist, on test: ${scored(final, "test_score")} (${counted(final.seeds.length, "seed")})${over ? ": more than you allow" : ""}.` }));
  }
  if (expected) parts.push(found("Predicted to be enough, not trained yet", expected, expects(expected)));
  if (answer) parts.push(element("p", { class: "note", text: "The sliders go by scores alone, luck included: they do not count confidence, as the answer does." }));
  box.replaceChildren(...parts);
}

function found(title, network, score) {
  if (!network) return element("div");
  const one = axis();
  const value = one.of(network);
  const words = `modifiers=explicit modifiers.network=${network.code}`;
  return element("div", { class: "found" }, element("h3", { text: title }), element("div", { class: "code", text: network.code }),
    element("div", { text: `${one.name}: ${one.write(value)}${one.full ? `, ${percent(value / one.full)} of the baseline's` : ""}` }),
    element("div", { text: score }), drawing(network),
    element("div", { class: "actions" }, copyButton(network.code), copyButton(words, network.expected ? "Copy words to train it" : "Copy words for ssr train"),
      element("button", { type: "button", class: "link", "data-pin": network.key, text: pinWord(network.key), onclick: () => pin(network) })));
}

byId("drop").addEventListener("input", (event) => { state.drop = Number(event.target.value); changed("take"); });
byId("cap").addEventListener("input", (event) => { state.cap = Number(event.target.value) === STEPS ? null : Number(event.target.value); changed("take"); });
whenChanged("study axis metric take", showTake);
whenChanged("pins", markTaken);
