// Score against cost: the lattice as predicted behind, what was measured before it.
const CERTAINTY = [0.6, 0.42, 0.28, 0.16]; // opacity of the lattice's points, surest first
const isTouch = matchMedia("(pointer: coarse)").matches;
const PLUS = "M5 0H9V5H14V9H9V14H5V9H0V5H5Z";
const STAR = "M7 0L9 5L14 5.3L10.2 8.6L11.4 14L7 11L2.6 14L3.8 8.6L0 5.3L5 5Z";
let scatter = null;
let extent = [0, 1, 0, 1]; // left, right, bottom, top of the chart
let shownNetworks = []; // by series of the chart, its data in order
let focused = -1;

const isLog = () => state.scale === "log";
const place = (value) => (isLog() ? Math.log10(value) : value);
const replace = (value) => (isLog() ? 10 ** value : value);

function ticks(low, high) {
  if (!isLog()) return undefined;
  const found = [];
  const fine = high - low < 0.8 ? [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8] : high - low < 2.2 ? [1, 2, 5] : high - low < 4 ? [1, 3] : [1];
  for (let power = Math.floor(low); power <= Math.ceil(high); power += 1) {
    for (const digit of fine) {
      const at = power + Math.log10(digit);
      if (at >= low && at <= high) found.push(at);
    }
  }
  return found;
}

function frame(name, low, high, more = {}) {
  return {
    type: "value", name, nameLocation: "middle", min: low, max: high, nameTextStyle: { color: ink("muted"), fontSize: 13 },
    axisLine: { show: true, lineStyle: { color: ink("control") } }, axisTick: { show: true },
    axisLabel: { color: ink("muted"), hideOverlap: true, showMinLabel: low === null, showMaxLabel: high === null }, splitLine: { lineStyle: { color: ink("grid") } }, ...more,
  };
}

const tooltip = () => ({
  trigger: "item", confine: true, backgroundColor: ink("card"), borderColor: ink("control"), textStyle: { color: ink("text") },
  extraCssText: "max-width:320px;", transitionDuration: 0,
});

function padded(values, share = 0.04) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) * 0.1 || 1) * share;
  return [low - room, high + room];
}

function latticeSeries(kept) {
  const spread = (p) => p.expected[2] - p.expected[0];
  const sorted = [...kept].sort((a, b) => spread(a) - spread(b));
  const size = Math.ceil(sorted.length / CERTAINTY.length);
  return CERTAINTY.map((opacity, i) => ({
    type: "scatter", large: true, largeThreshold: 500, symbolSize: 3.5, z: 1, networks: sorted.slice(i * size, (i + 1) * size),
    itemStyle: { color: ink("lattice"), opacity }, emphasis: { disabled: true },
  })).map((one) => ({ ...one, data: one.networks.map((p) => [place(axis().of(p)), p.expected[1]]) }));
}

// The predicted front with its 80 % interval: a band between two lines.
function bandSeries() {
  const line = predictedFront();
  const at = (p, value) => [place(axis().of(p)), value];
  const plain = { type: "line", symbol: "none", silent: true, z: 2, animation: false };
  return [
    { ...plain, stack: "band", stackStrategy: "all", lineStyle: { opacity: 0 }, data: line.map((p) => at(p, p.expected[0])) },
    { ...plain, stack: "band", stackStrategy: "all", lineStyle: { opacity: 0 }, areaStyle: { color: ink("lattice"), opacity: 0.22 }, data: line.map((p) => at(p, p.expected[2] - p.expected[0])) },
    { ...plain, lineStyle: { color: ink("lattice"), type: "dashed", width: 1.5 }, data: line.map((p) => at(p, p.expected[1])) },
  ];
}

function spreadSeries(networks) {
  const data = networks.flatMap((n) => {
    const { mean, std } = scoreOf(n);
    const x = place(axis().of(n));
    return std ? [[x, mean - std], [x, mean + std], ["-", "-"]] : [];
  });
  return { type: "line", symbol: "none", silent: true, z: 3, data, lineStyle: { color: ink("muted"), width: 1.2, opacity: 0.55 }, animation: false };
}

function kindSeries(name, networks) {
  const { symbol, ink: colour } = look(name);
  const small = networks.length > 300;
  const hollow = symbol === "hollow";
  return {
    type: "scatter", networks, z: name === "baseline" || name === "finalist" ? 6 : 5, symbol: { hollow: "circle", star: `path://${STAR}`, plus: `path://${PLUS}` }[symbol] || symbol, cursor: "pointer",
    symbolSize: { diamond: 15, star: 17, triangle: small ? 8 : 11 }[symbol] || (small ? 6 : 10),
    itemStyle: { color: hollow ? "transparent" : colour, borderColor: hollow ? colour : ink("card"), borderWidth: hollow ? 1.5 : 1 },
    data: networks.map((n) => [place(axis().of(n)), scoreOf(n).mean]),
  };
}

function ringSeries() {
  const ring = (networks, colour, size, width) => ({
    type: "scatter", silent: true, z: 8, symbol: "circle", symbolSize: size, itemStyle: { color: "transparent", borderColor: colour, borderWidth: width },
    data: networks.map((n) => [place(axis().of(n)), n.expected ? n.expected[1] : scoreOf(n)?.mean]).filter((at) => at.every(isNumber)),
  });
  const { full, own, expected } = taken();
  const limit = (data) => ({ type: "line", symbol: "none", silent: true, z: 2, data, lineStyle: { color: ink("good"), type: "dotted", width: 1.5 } });
  const [left, right, bottom, top] = extent;
  const least = full ? full.mean - goodness(state.drop) : null;
  const most = place(capValue());
  const cursor = walkable()[focused];
  return [
    { id: "least", ...limit(full ? [[left, least], [right, least]] : []) },
    { id: "most", ...limit(state.cap === null ? [] : [[most, bottom], [most, top]]) },
    { id: "taken", ...ring([own].filter(Boolean), ink("good"), 24, 3) },
    { id: "expected", ...ring([expected].filter((p) => p && predictions().length), ink("good"), 16, 2) },
    { id: "pinned", ...ring(pinned(), ink("accent"), 18, 2) },
    { id: "cursor", ...ring([cursor].filter(Boolean), ink("text"), 28, 2) },
  ];
}

const visible = () => study().networks.filter((n) => scoreOf(n) && isNumber(axis().of(n)) && !state.hidden.has(group(n)));
const walkable = () => visible().sort((a, b) => axis().of(a) - axis().of(b));

// They are of the score on val, so they stand beside nothing else.
function predictions() {
  const isVal = state.metric === "auto" || state.metric === "score";
  return state.lattice && isVal ? study().points.filter((p) => isNumber(axis().of(p))) : [];
}

function reach(network) {
  const { mean, std } = scoreOf(network);
  return [mean - (std || 0), mean + (std || 0)];
}

function showChart() {
  const box = byId("scatter");
  box.hidden = false;
  if (!box.clientWidth) return;
  scatter = scatter || begun(box);
  const networks = visible();
  const points = predictions();
  const line = measuredFront().filter((n) => !state.hidden.has(group(n)));
  const layers = [
    ...latticeSeries(points),
    ...(points.length ? bandSeries() : []),
    spreadSeries(networks),
    { type: "line", step: "end", symbol: "none", silent: true, z: 4, lineStyle: { color: ink("text"), width: 1.5 }, data: line.map((n) => [place(axis().of(n)), scoreOf(n, comparedBy()).mean]) },
    ...groups().filter((name) => !state.hidden.has(name)).map((name) => kindSeries(name, networks.filter((n) => group(n) === name))),
  ].filter((one) => !one.networks || one.networks.length);
  shownNetworks = layers.map((one) => one.networks || []);
  byId("reading").textContent = networks.length + points.length ? "" : whyEmpty();
  box.hidden = !(networks.length + points.length);
  showLegend(points.length, line.length);
  if (box.hidden) return;
  const across = [...networks, ...points].map((n) => place(axis().of(n)));
  const up = [...networks.flatMap(reach), ...(points.length ? predictedFront() : []).map((p) => p.expected[1])];
  const [least, high] = padded(across);
  const low = isLog() ? least : Math.max(0, least);
  const marks = ticks(low, high);
  const only = marks ? { customValues: marks } : {};
  const [bottom, highest] = padded(up, 0.08);
  const most = judged().bounds[1];
  const top = most === null ? highest : Math.min(highest, most + 0.005 * (most - (judged().bounds[0] ?? 0)));
  extent = [low, high, bottom, top];
  const zoom = { type: "inside", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false, moveOnMouseMove: !isTouch, preventDefaultMouseMove: !isTouch, filterMode: "none" };
  scatter.setOption({
    animation: false, grid: { left: 60, right: 18, top: 16, bottom: 48 }, tooltip: { ...tooltip(), formatter: tipOf }, aria: { enabled: false },
    xAxis: frame(axis().name, low, high, {
      nameGap: 34, axisTick: { show: true, ...only },
      axisLabel: { color: ink("muted"), hideOverlap: true, formatter: (value) => short(replace(value)), ...only },
      splitLine: { show: !marks, lineStyle: { color: ink("grid") } },
    }),
    yAxis: frame(`${judged().word}${judged().unit && ` in ${judged().unit}`}${judged().sign < 0 ? " (smaller is better)" : ""}, ${METRICS[state.metric]}`, bottom, top, { nameGap: 42 }),
    dataZoom: [{ ...zoom, xAxisIndex: 0 }, { ...zoom, yAxisIndex: 0 }],
    series: [...layers.map(({ networks: _, ...one }) => one), ...ringSeries()],
  }, { notMerge: true });
}

function whyEmpty() {
  if (!Object.keys(METRICS).some(isMeasured)) return "Nothing that has finished can be shown here; the Study view says what failed.";
  return `No network of the kinds that are shown has this cost and this score (${METRICS[state.metric]}): choose others.`;
}

function begun(box) {
  const chart = echarts.init(box, null, { renderer: "canvas" });
  chart.on("click", (event) => { const network = shownNetworks[event.seriesIndex]?.[event.dataIndex]; if (network) pin(network); });
  new ResizeObserver(() => chart.resize()).observe(box);
  box.addEventListener("keydown", walk);
  // Without Ctrl the wheel scrolls the page, which ECharts would prevent.
  box.addEventListener("wheel", (event) => { if (!event.ctrlKey) event.stopPropagation(); }, { capture: true, passive: true });
  box.addEventListener("blur", () => { focused = -1; showRings(); });
  return chart;
}

function tipOf(event) {
  const network = shownNetworks[event.seriesIndex]?.[event.dataIndex];
  return network ? tip(network) : "";
}

function showRings() {
  if (scatter) scatter.setOption({ series: ringSeries() });
}

// The arrow keys go through the networks from the cheapest to the largest.
function walk(event) {
  const networks = walkable();
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
  if (event.key in steps && networks.length) {
    focused = focused < 0 ? 0 : (focused + steps[event.key] + networks.length) % networks.length;
  } else if (event.key === "Home" || event.key === "End") {
    focused = event.key === "Home" ? 0 : networks.length - 1;
  } else if (event.key === "Enter" && networks[focused]) {
    pin(networks[focused]);
  } else {
    return;
  }
  event.preventDefault();
  const network = networks[focused];
  showRings();
  byId("reading").textContent = [network.code, ...facts(network).map(([name, value]) => `${name} ${value}`), isPinned(network) ? "pinned" : ""].filter(Boolean).join("; ");
}

function symbolOf(name) {
  const { symbol, ink: colour } = look(name);
  const shapes = {
    diamond: ["path", { d: "M7 0L14 7L7 14L0 7Z" }], rect: ["rect", { x: 1, y: 1, width: 12, height: 12 }],
    roundRect: ["rect", { x: 1, y: 1, width: 12, height: 12, rx: 4 }], triangle: ["path", { d: "M7 1L13 13H1Z" }],
    star: ["path", { d: STAR }], plus: ["path", { d: PLUS }],
    hollow: ["circle", { cx: 7, cy: 7, r: 5, "fill-opacity": 0, stroke: colour, "stroke-width": 2 }],
  };
  const [tag, place] = shapes[symbol] || ["circle", { cx: 7, cy: 7, r: 6 }];
  return drawn("svg", { width: 14, height: 14, "aria-hidden": "true" }, drawn(tag, { fill: colour, ...place }));
}

function showLegend(predicted, measured) {
  const keys = groups().map((name) => {
    const amount = study().networks.filter((n) => group(n) === name && scoreOf(n) && isNumber(axis().of(n))).length;
    return element("button", {
      type: "button", "aria-pressed": String(!state.hidden.has(name)), title: "Show or hide",
      onclick: (event) => {
        if (state.hidden.has(name)) state.hidden.delete(name); else state.hidden.add(name);
        const at = [...byId("legend").children].indexOf(event.currentTarget);
        changed("kinds");
        byId("legend").children[at].focus();
      },
    }, symbolOf(name), `${look(name).name} (${whole.format(amount)})`);
  });
  // Of up to 10^7 points all were predicted; a larger lattice's front was found by local search.
  const spelled = (size) => (size > 1e12 ? size.toExponential(1) : whole.format(size)) + (size > 1e7 ? " (a sample)" : "");
  const line = (colour, dashed) => drawn("svg", { width: 22, height: 14, "aria-hidden": "true" }, drawn("path", { d: "M0 7H22", stroke: colour, "stroke-width": 2, "stroke-dasharray": dashed ? "5 3" : null }));
  if (measured) keys.push(element("span", { class: "key" }, line(ink("text")), "measured front"));
  if (predicted) {
    keys.push(element("span", { class: "key" }, line(ink("lattice"), true), `predicted front, 80 % interval; ${whole.format(predicted)} of ${spelled(study().predictions.lattice.size)} points of the lattice, the paler the less sure`));
  }
  if (!predicted && study().points.length) keys.push(element("span", { class: "key", text: "no predictions of this cost and score" }));
  byId("legend").replaceChildren(...keys);
}

byId("reset").addEventListener("click", () => showChart());
whenChanged("study axis scale metric colour lattice kinds theme tab", showChart);
whenChanged("pins take", showRings);
