// One network: what is said of it, and its segments drawn before and after.
const DRAWING = { width: 300, height: 84 };
const LETTER = 5.4; // pixels, at its font size

function facts(network) {
  const full = study().baseline;
  const own = shape(network);
  const rows = [["kind", network.kind === "predicted" ? "not trained" : kindOf(network)]];
  if (own) rows.push(["blocks", own.blocks.join("-")], ["channels", own.widths.join("-")]);
  for (const one of axes()) {
    const value = one.of(network);
    const written = isNumber(value) && one.write(value, network);
    if (written) rows.push([one.title ? `latency, ${one.title}` : one.name, one.full ? `${written} (${percent(value / one.full)})` : written]);
  }
  if (network.expected) rows.push(["expected on val", expects(network, "")]);
  for (const [metric, name] of [["score", "val"], ["test_score", "test"]]) {
    if (network[metric]) rows.push([name, scored(network, metric) + (metric === "score" ? meanOf(network) : "")]);
  }
  if (network.seeds) rows.push(["seeds", network.seeds.join(", ") || "none finished"]);
  if (network.model !== study().model) rows.unshift(["seed network", network.model]);
  return rows.filter(([, value]) => value !== "") && full ? rows : [];
}

// Whose mean the score on val is: finalists count, too, where they did not learn from val.
const meanOf = (network) => (network.val_seeds?.length > 1 ? `, mean of seeds ${network.val_seeds.join(", ")}` : "");

const kindOf = (network) => KINDS[network.kind].name + (network.round ? ` in round ${network.round}` : "") + (network.status === "finished" ? "" : `, ${network.status}`);

function expects(network, word = " expected") {
  const [low, mean, high] = network.expected;
  return `${united(mean, judged())}${word}, 80 % interval ${numbered(low, judged())} to ${numbered(high, judged())}`;
}

function scored(network, metric) {
  const { mean, std } = scoreOf(network, metric);
  const full = baseline(metric, isFinalist(network));
  const write = (value) => numbered(value, judged());
  const lost = full ? dropOf(mean, full.mean) : 0;
  const isWhole = network.kind === "baseline" || network === finalBaseline(metric);
  const drop = full && !isWhole ? `, ${lost < 0 ? "gain" : "drop"} ${write(Math.abs(lost))}` : "";
  return `${`${write(mean)}${std === null ? "" : ` \u00b1 ${write(std)}`} ${judged().unit}`.trim()}${drop}`;
}

function tip(network) {
  const box = element("div", { class: "tip" }, element("b", { class: "code", text: network.code }));
  for (const [name, value] of facts(network)) box.append(element("div", { text: `${name}: ${value}` }));
  return box;
}

// Blocks are boxes; a box's height is the channels' share of the widest segment.
function drawing(network) {
  const own = shape(network);
  const segments = study().segments;
  if (!own || own.blocks.length !== segments.length) return null;
  const { width, height } = DRAWING;
  const gap = Math.min(10, width / (3 * segments.length));
  const blocks = segments.reduce((sum, segment) => sum + segment.blocks, 0);
  const each = Math.min(26, (width - gap * (segments.length - 1)) / Math.max(blocks, 1));
  const widest = Math.max(...segments.map((segment) => segment.channels), 1);
  const tall = (channels) => Math.max(2, (height * channels) / widest);
  const picture = drawn("svg", { class: "drawing", viewBox: `0 0 ${width} ${height + 18}`, width: "100%", role: "img" });
  const words = segments.map((s, i) => `${s.name}: ${own.widths[i] ? `${own.blocks[i]} of ${s.blocks} blocks, ${own.widths[i]} of ${s.channels} channels` : "left out"}`);
  picture.append(drawn("title", { text: words.join("; ") }));
  const box = (x, channels, ghost) =>
    drawn("rect", {
      x: x + each * 0.06, y: (height - tall(channels)) / 2 + 1, width: Math.max(each * 0.88, 0.5), height: Math.max(tall(channels) - 2, 1), rx: 1.5,
      fill: ghost ? "none" : "var(--accent)", stroke: ghost ? "var(--ghost)" : "none", "stroke-dasharray": ghost ? "3 2" : null,
    });
  // What is left of the width goes to segments whose names are wider than their blocks.
  const names = segments.map((segment, i) => (segments.length > 8 ? (i % Math.ceil(segments.length / 10) ? "" : `${i + 1}`) : segment.name));
  const lacking = segments.map((segment, i) => (segments.length > 8 ? 0 : Math.max(0, (names[i].length + 1) * LETTER - segment.blocks * each)));
  const spare = width - gap * (segments.length - 1) - blocks * each;
  const share = Math.min(1, Math.max(spare, 0) / Math.max(lacking.reduce((sum, one) => sum + one, 0), 1));
  let x = 0;
  segments.forEach((segment, i) => {
    const beside = (lacking[i] * share) / 2;
    x += beside;
    for (let b = 0; b < segment.blocks; b += 1) {
      picture.append(box(x, segment.channels, true));
      if (b < own.blocks[i] && own.widths[i]) picture.append(box(x, own.widths[i], false));
      x += each;
    }
    const label = segments.length > 8 ? names[i] : shortened(names[i], Math.max(segment.blocks * each + 2 * beside, 24) / LETTER);
    picture.append(drawn("text", { x: x - (segment.blocks * each) / 2, y: height + 14, "text-anchor": "middle", "font-size": 10, fill: "var(--muted)", text: label }));
    x += beside + gap;
  });
  return picture;
}

const shortened = (text, most) => (text.length <= Math.max(most, 3) ? text : `${text.slice(0, Math.max(Math.floor(most) - 1, 2))}\u2026`);
