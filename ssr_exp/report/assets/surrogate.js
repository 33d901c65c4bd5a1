// Is the surrogate to be believed? Left-out predictions, calibration, what matters, and gain by round.
const smallCharts = [];

function erf(x) { // Abramowitz and Stegun 1964, 7.1.26: within 1.5e-7
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * Math.exp(-x * x);
  return Math.sign(x) * (1 - tail);
}

function card(title, note, height) {
  const box = element("div", { class: "chart", role: "img", "aria-label": `${title}. ${note}` });
  if (height) box.style.height = `${height}px`;
  return [element("div", { class: "card" }, element("h2", { text: title }), box, element("p", { class: "note", text: note })), box];
}

function plot(box, option) {
  const chart = echarts.init(box);
  chart.setOption({ animation: false, grid: { left: 56, right: 18, top: 16, bottom: 52 }, ...option });
  const observer = new ResizeObserver(() => chart.resize());
  observer.observe(box);
  smallCharts.push({ dispose: () => { observer.disconnect(); chart.dispose(); } });
}

const diagonal = (low, high) => ({ type: "line", symbol: "none", silent: true, data: [[low, low], [high, high]], lineStyle: { color: ink("control"), type: "dashed" } });

function leftOutChart(told) {
  const { outcome } = told;
  const unit = `val ${outcome.word}${outcome.unit && ` in ${outcome.unit}`}`;
  const [one, box] = card("Left out and predicted from the others", `Each of ${counted(told.left_out.length, "training")} as the surrogate would have predicted it without having seen it; lines are 80 % intervals.`);
  const [low, high] = padded(told.left_out.flatMap((row) => [row.measured, row.predicted]));
  const bars = told.left_out.flatMap((row) => [[row.measured, row.low], [row.measured, row.high], ["-", "-"]]);
  const kinds = new Map(study().networks.filter((n) => !isFinalist(n)).map((n) => [n.code, n]));
  const draw = () => plot(box, {
    tooltip: { ...tooltip(), formatter: (event) => { const row = told.left_out[event.dataIndex]; return row ? leftOutTip(row, kinds.get(row.network)) : ""; } },
    xAxis: frame(`measured: ${unit}`, low, high, { nameGap: 32 }),
    yAxis: frame("predicted", low, high, { nameGap: 40 }),
    series: [
      { type: "scatter", data: told.left_out.map((row) => [row.measured, row.predicted]), symbolSize: told.left_out.length > 200 ? 5 : 9, z: 3, itemStyle: { color: ink("accent"), borderColor: ink("card") } },
      { type: "line", symbol: "none", silent: true, data: bars, clip: true, lineStyle: { color: ink("accent"), opacity: told.left_out.length > 200 ? 0.15 : 0.4, width: 1 } },
      diagonal(low, high),
    ],
  });
  return [one, draw];
}

function leftOutTip(row, network) {
  return element("div", { class: "tip" }, element("b", { class: "code", text: row.network }),
    element("div", { text: `seed ${row.seed}${network ? `, ${kindOf(network)}` : ""}` }),
    element("div", { text: `measured ${numbered(row.measured, study().predictions.outcome)}, predicted ${numbered(row.predicted, study().predictions.outcome)} (80 %: ${numbered(row.low, study().predictions.outcome)} to ${numbered(row.high, study().predictions.outcome)})` }),
    element("div", { text: `${fixed(Math.abs(row.z))} standard deviations off` }));
}

function calibrationChart(told) {
  const [one, box] = card("Calibration", "The share of trainings inside each interval. On the dashed line the surrogate knows how sure it may be; below it, it is too sure.");
  const inside = told.left_out.map((row) => erf(Math.abs(row.z) / Math.SQRT2));
  const levels = Array.from({ length: 19 }, (_, i) => (i + 1) / 20);
  const share = (level) => (100 * inside.filter((p) => p <= level).length) / Math.max(inside.length, 1);
  const draw = () => plot(box, {
    tooltip: { ...tooltip(), formatter: (event) => element("div", { class: "tip", text: `${fixed(event.value[1])} % of the trainings lie in their ${event.value[0]} % intervals` }) },
    xAxis: frame("interval in %", 0, 100, { nameGap: 32, axisLabel: { color: ink("muted") } }), yAxis: frame("trainings inside in %", 0, 100, { nameGap: 40, axisLabel: { color: ink("muted") } }),
    series: [{ type: "line", symbolSize: 8, data: levels.map((level) => [Math.round(100 * level), share(level)]), lineStyle: { color: ink("accent") }, itemStyle: { color: ink("accent") } }, diagonal(0, 100)],
  });
  return [one, draw];
}

function sensitivityChart(told) {
  const unit = told.outcome.unit_of_drops || told.outcome.word;
  const segments = [...new Set(told.sensitivities.map((s) => s.segment))];
  const [one, box] = card("What depth and width are worth", `Predicted change of the outcome, in ${unit}, from a segment's lowest depth or width to the full one, averaged over the rest of the lattice.`, Math.max(280, 90 + 34 * segments.length));
  const bars = (kind, colour) => ({
    type: "bar", name: kind, barMaxWidth: 14, itemStyle: { color: colour },
    data: segments.map((segment) => told.sensitivities.find((s) => s.segment === segment && s.kind === kind)?.effect ?? null),
  });
  const draw = () => plot(box, {
    grid: { left: 110, right: 18, top: 34, bottom: 52 }, legend: { top: 0, textStyle: { color: ink("text") } },
    tooltip: { ...tooltip(), formatter: (event) => element("div", { class: "tip", text: `${event.seriesName} of ${event.name}: ${event.value >= 0 ? "+" : ""}${numbered(event.value, told.outcome)} ${unit}` }) },
    xAxis: frame(unit, null, null, { nameGap: 32 }),
    yAxis: { type: "category", inverse: true, data: segments, axisLabel: { color: ink("text"), width: 96, overflow: "truncate" }, axisLine: { lineStyle: { color: ink("control") } } },
    series: [bars("depth", ink("sentinel")), bars("width", ink("proposed"))].filter((one) => one.data.some(Boolean)),
  });
  return [one, draw];
}

// The area under the measured front, of parameters on a log scale, after each round.
function volumes(last) {
  const known = study().networks.filter((n) => n.score && roundOf(n) !== null);
  if (!known.length) return [];
  const floor = Math.min(...known.map((n) => goodness(n.score[0])));
  const end = Math.log(study().baseline.params);
  return Array.from({ length: last + 1 }, (_, round) => {
    const line = front(known.filter((n) => roundOf(n) <= round), (n) => n.params, (n) => n.score[0]);
    return line.reduce((sum, n, i) => {
      const next = i + 1 < line.length ? Math.log(line[i + 1].params) : end;
      return sum + (goodness(n.score[0]) - floor) * Math.max(0, Math.min(next, end) - Math.log(n.params));
    }, 0);
  });
}

function gainCharts(told) {
  const planned = told.rounds.filter((round) => round.number > 0 && round.planned.some((p) => isNumber(p.promise)));
  const last = Math.max(0, ...told.rounds.map((round) => round.number));
  const found = volumes(last);
  const rounds = found.map((_, i) => (i ? `round ${i}` : "first"));
  const [measured, one] = card("Measured gain by round", "Area under the measured front, parameters on a log scale, as a share of the latest.");
  const [expected, two] = card("Expected gain by round", "What the best proposal of each round was expected to gain when it was chosen: hypervolume (tradeoff), or the fall of the log cost (smallest).");
  const category = (data) => ({ type: "category", data, axisLabel: { color: ink("muted") }, axisLine: { lineStyle: { color: ink("control") } } });
  const latest = found[found.length - 1] || 1;
  const floor = 10 * Math.floor((10 * Math.min(...found, latest)) / latest - 0.001); // so that its ticks are round numbers
  const says = (digits) => ({ ...tooltip(), formatter: (event) => element("div", { class: "tip", text: `${event.name}: ${Number(event.value.toPrecision(digits))}` }) });
  const draw = () => {
    plot(one, { tooltip: says(5), xAxis: category(rounds), yAxis: frame("% of the latest", floor, 100, { nameGap: 40, axisLabel: { color: ink("muted") } }), series: [{ type: "line", symbolSize: 9, data: found.map((v) => (100 * v) / latest), lineStyle: { color: ink("accent") }, itemStyle: { color: ink("accent") } }] });
    plot(two, { tooltip: says(3), xAxis: category(planned.map((r) => `round ${r.number}`)), yAxis: frame("expected gain", null, null, { nameGap: 40 }), series: [{ type: "bar", barMaxWidth: 40, data: planned.map((r) => Math.max(...r.planned.map((p) => p.promise ?? 0))), itemStyle: { color: ink("proposed") } }] });
  };
  return [[measured, expected], draw];
}

function looksTable(told) {
  const unit = told.outcome.unit_of_drops || told.outcome.word;
  const names = ["after round", "runs", `error, ${unit}`, "guessing the mean", "rank correlation", ...told.levels.map((level) => `in ${100 * level} %`), `noise, ${unit}`];
  const head = element("tr", {}, names.map((name) => element("th", { scope: "col", text: name })));
  const body = told.looks.map((look) => element("tr", {}, [
    look.round, look.runs, numbered(look.rmse, told.outcome), numbered(look.spread, told.outcome), look.spearman === null ? "none" : fixed(look.spearman),
    ...look.coverage.map((share) => `${(100 * share).toFixed(0)} %`), numbered(look.noise, told.outcome),
  ].map((value) => element("td", { text: value }))));
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Errors by round" }, element("table", {}, element("thead", {}, head), element("tbody", {}, body)));
}

function plannedTable(told) {
  const metric = told.outcome.key === judged().key ? "score" : "val_loss";
  // What the round trained, one training, as the interval is of one: the means of networks have others, too.
  const measured = new Map();
  for (const run of [...study().runs].sort((a, b) => b.seed - a.seed)) if (isNumber(run[metric]) && run.kind !== "finalist") measured.set(run.network, run[metric]);
  const proposals = told.rounds.filter((r) => r.number > 0).flatMap((r) => r.planned.map((p) => [r.number, p]));
  if (!proposals.length) return null;
  const head = ["round", "network", "expected", "80 % interval", "measured"].map((name) => element("th", { scope: "col", class: name === "network" ? "text" : null, text: name }));
  const body = proposals.map(([number, p]) => {
    const value = measured.get(p.network);
    const hit = isNumber(value) && isNumber(p.low) && value >= p.low && value <= p.high;
    const cells = [number, p.network, isNumber(p.mean) ? numbered(p.mean, told.outcome) : "", isNumber(p.low) ? `${numbered(Math.min(p.low, p.high), told.outcome)} to ${numbered(Math.max(p.low, p.high), told.outcome)}` : "", isNumber(value) ? `${numbered(value, told.outcome)} ${hit ? "inside" : "outside"}` : "not yet"];
    return element("tr", {}, cells.map((text, i) => element("td", { class: i === 1 ? "text code" : null, text })));
  });
  return element("div", { class: "card" }, element("h2", { text: "Proposals: expected and measured" }),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Proposals" }, element("table", {}, element("thead", {}, element("tr", {}, head)), element("tbody", {}, body))));
}

function showSurrogate() {
  if (state.tab !== "surrogate") return;
  for (const chart of smallCharts.splice(0)) chart.dispose();
  const told = study().predictions;
  if (!told) {
    byId("surrogate").replaceChildren(element("div", { class: "card" }, element("h2", { text: "No predictions yet" }),
      element("p", { text: "A surrogate needs the baseline and at least three other networks with a finished run. ssr report paths.runs=DIR fits one; so does ssr search rounds=0." })));
    return;
  }
  const hasRounds = told.rounds.some((round) => round.number > 0);
  const [leftOut, drawLeftOut] = leftOutChart(told);
  const [calibration, drawCalibration] = calibrationChart(told);
  const [sensitivity, drawSensitivity] = sensitivityChart(told);
  const [gains, drawGains] = gainCharts(told);
  const warnings = told.looks[told.looks.length - 1].warnings.map((text) => element("p", { class: "warning", text: sentence(text) }));
  const origin = told.search ? `Search ${told.search}` : "Fitted to the records; no search is behind it";
  byId("surrogate").replaceChildren(
    element("div", { class: "card" }, element("h2", { text: "Is it to be believed?" }), element("p", { class: "note", text: `${origin}, ${moment(told.created_at)} UTC.` }), ...warnings, looksTable(told)),
    element("div", { class: "halves" }, leftOut, calibration),
    element("div", { class: "halves" }, sensitivity, plannedTable(told)),
    ...(hasRounds ? [element("div", { class: "halves" }, gains)] : []),
  );
  for (const draw of [drawLeftOut, drawCalibration, drawSensitivity]) draw();
  if (hasRounds) drawGains();
}

whenChanged("study theme tab", showSurrogate);
