// What is shown: a study's networks, its lattice, its costs and scores.
const KINDS = {
  baseline: { name: "baseline", symbol: "diamond" },
  sentinel: { name: "sentinel", symbol: "circle" },
  uniform: { name: "uniform", symbol: "rect" },
  scbp: { name: "SCBP", symbol: "roundRect" },
  random: { name: "random", symbol: "hollow" },
  proposed: { name: "proposed", symbol: "triangle" },
  finalist: { name: "finalist", symbol: "star" },
  other: { name: "other", symbol: "plus" },
};
const METRICS = {
  auto: "val; finalists: test",
  score: "val, last epoch",
  best_score: "val, best epoch",
  test_score: "test",
};
const ROUND_INKS = ["sentinel", "proposed", "finalist", "scbp", "uniform", "other"];

const study = () => DATA.studies[state.study];
const judged = () => study().score; // how its networks are judged
const goodness = (value) => judged().sign * value;
const subject = (one) => (one.by_loop ? `${one.model}, trained by its own project` : `${one.model} on ${one.dataset}`);
// A network that is a finalist, too, has two rows, and is one network.
const amountOf = (networks) => new Set(networks.map((n) => `${n.model} ${n.code}`)).size;
const isFinalist = (network) => network.kind === "finalist";

// Networks get an own key, and a lattice's points become networks that have only a prediction.
for (const one of DATA.studies) {
  for (const network of one.networks) network.key = (isFinalist(network) ? "f:" : "m:") + network.code + ":" + network.model;
  one.points = latticeOf(one);
}

function latticeOf(one) {
  if (!one.predictions || one.predictions.outcome.key !== one.score.key) return [];
  const sample = one.predictions.lattice;
  const at = one.settings.indexOf(one.predictions.latency);
  const timed = one.predictions.timed && new Set(one.predictions.timed); // none: of an earlier version, which does not say it
  return sample.network.map((code, i) => ({
    key: "p:" + code, code, kind: "predicted", model: one.model,
    params: sample.params[i], macs: sample.macs[i], gemms: sample.gemms[i],
    latency: one.settings.map((_, s) => (s === at && sample.latency_ms ? sample.latency_ms[i] : null)),
    latency_predicted: one.settings.map((_, s) => s === at && timed !== null && !timed.has(code)),
    expected: [sample.low[i], sample.mean[i], sample.high[i]],
    lost: sample.drop && sample.drop_sigma ? { drop: sample.drop[i], sigma: sample.drop_sigma[i] } : null,
  }));
}

function axes() {
  study().axes ||= axesOf();
  return study().axes;
}

function axesOf() {
  const exact = [["params", "parameters"], ["macs", "MACs"], ["gemms", "GeMMs"]].map(([id, name]) => ({
    id, name, full: study().baseline[id], of: (network) => network[id], write: (value) => whole.format(Math.round(value)),
  }));
  const timed = study().settings.map((setting, s) => {
    const full = study().networks.find((n) => n.kind === "baseline" && isNumber(n.latency[s]));
    return {
      id: `latency${s}`, name: `ms, ${shortSetting(setting)}`, title: setting, full: full ? full.latency[s] : null,
      of: (network) => network.latency[s], write: (value, network) => `${guessed(network, s)}${Number(value.toPrecision(4))} ms`,
    };
  });
  return [...exact, ...timed];
}

// Stands before a latency that was not measured, as on the terminal.
const guessed = (network, s) => (network?.latency_predicted[s] ? "~" : "");

// What a setting is called beside the others of its study; the whole name is said where there is room.
function shortSetting(setting) {
  const word = setting.split(/[ ,(]/)[0];
  const alike = study().settings.filter((other) => other.split(/[ ,(]/)[0] === word);
  return alike.length > 1 ? `${word} (${alike.indexOf(setting) + 1})` : word;
}

const axisNamed = (id) => axes().find((one) => one.id === id);
const axis = () => axisNamed(state.axis) || axisNamed(usualAxis()) || axes()[0];

// What is traded where nobody chose: the cost of the study's search.
function usualAxis() {
  const told = study().predictions;
  const id = told && told.cost === "latency_ms" ? `latency${study().settings.indexOf(told.latency)}` : told?.cost;
  const one = axisNamed(id);
  return one && study().networks.some((n) => isNumber(one.of(n))) ? id : "params"; // a search of an earlier version
}

// What a network scores: mean, standard deviation over its trainings, and on which images.
function scoreOf(network, metric = state.metric) {
  const name = metric === "auto" ? (isFinalist(network) ? "test_score" : "score") : metric;
  const found = network[name];
  return found ? { mean: found[0], std: found[1], on: name === "test_score" ? "test" : "val" } : null;
}

const isMeasured = (metric) => study().networks.some((n) => n[metric === "auto" ? "score" : metric]);

const dropOf = (value, full) => goodness(full - value);

// What networks are compared with: finalists with the baseline's finalist, others with its run. Where nothing says which
// they are, on test with the finalist, as the commands compare.
function baseline(metric = comparedBy(), ofFinalists = metric === "test_score") {
  const ordinary = study().networks.find((n) => n.kind === "baseline" && scoreOf(n, metric));
  const final = finalBaseline(metric);
  const found = ofFinalists ? final || ordinary : ordinary || final;
  return found ? scoreOf(found, metric) : null;
}

// How much worse than its baseline a network is, for many of them.
function drops() {
  const [ordinary, final] = [false, true].map((ofFinalists) => baseline(comparedBy(), ofFinalists));
  return (network, value) => dropOf(value, (isFinalist(network) ? final : ordinary).mean);
}

function finalBaseline(metric) {
  const full = study().baseline.params;
  return study().networks.find((n) => isFinalist(n) && n.params === full && scoreOf(n, metric));
}

// Networks are compared on the same images, so finalists only with finalists.
const comparedBy = () => (state.metric === "auto" ? "score" : state.metric);
const comparable = () => study().networks.filter((n) => scoreOf(n, comparedBy()) && isNumber(axis().of(n)) && !(comparedBy() !== "test_score" && isRepeated(n)));

// On val a finalist has the score of the network that it is, which stands there already.
const isRepeated = (network) => isFinalist(network) && study().networks.some((n) => !isFinalist(n) && n.code === network.code && n.model === network.model && n.score);

// The networks that no other one beats in score and cost, the cheapest first.
function front(networks, cost, score) {
  const kept = [];
  const good = (network) => goodness(score(network));
  for (const network of [...networks].sort((a, b) => cost(a) - cost(b) || good(b) - good(a))) {
    const last = kept[kept.length - 1];
    const isEqual = last && cost(network) === cost(last) && good(network) === good(last); // neither beats the other
    if (!last || isEqual || good(network) > good(last)) kept.push(network);
  }
  return kept;
}

const measuredFront = () => front(comparable(), axis().of, (n) => scoreOf(n, comparedBy()).mean);
const predictedFront = () => front(study().points.filter((p) => isNumber(axis().of(p))), axis().of, (p) => p.expected[1]);

// The round of the search that planned a network, 0 for its first ones; null if it planned none.
function roundOf(network) {
  if (isFinalist(network)) return null;
  if (!study().rounds) {
    const planned = study().predictions?.rounds ?? [];
    study().rounds = new Map(planned.flatMap((round) => round.planned.map((one) => [one.network, round.number])));
  }
  return study().rounds.get(network.code) ?? (study().rounds.size ? null : network.round);
}

function group(network) {
  if (state.colour === "kind") return network.kind;
  if (isFinalist(network)) return "finalist";
  return roundOf(network) === null ? "others" : `round ${roundOf(network)}`;
}

function look(name) {
  if (name === "others") return { name, symbol: "hollow", ink: ink("other") };
  if (KINDS[name]) return { name: KINDS[name].name, symbol: KINDS[name].symbol, ink: ink(name) };
  const number = Number(name.slice(6));
  const first = number === 0;
  return { name: first ? "first networks" : name, symbol: first ? "circle" : "triangle", ink: ink(first ? "random" : ROUND_INKS[(number - 1) % ROUND_INKS.length]) };
}

function groups() {
  const order = state.colour === "kind" ? Object.keys(KINDS) : [];
  const found = [...new Set(study().networks.map(group))];
  const rank = (name) => (order.length ? order.indexOf(name) : name === "finalist" ? 1e9 : name === "others" ? 1e8 : Number(name.slice(6)));
  return found.sort((a, b) => rank(a) - rank(b));
}

// A network's code: its blocks and channels, segment by segment. Groups of channels have no blocks in it.
function shape(network) {
  if (network.blocks) return { blocks: network.blocks, widths: network.widths };
  const match = /(?:^|_)(?:d([\d-]+)_)?w([\da-z-]+)$/.exec(network.code);
  if (!match) return null;
  const counts = (match[1] ?? "").split("-").filter(Boolean).map(Number);
  const segments = study().segments;
  const blocks = counts.length === segments.length ? counts : segments.map((segment) => (segment.blocks > 1 ? (counts.shift() ?? NaN) : 1));
  return { blocks, widths: match[2].split("-").map((text) => parseInt(text, 10)) };
}
