// The document's helpers. Text reaches the document as text alone: nothing here reads markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.setAttribute("class", value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

const element = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
const drawn = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

const state = {
  study: 0, tab: "trade", axis: null, scale: "log", metric: "auto", colour: "kind", lattice: true,
  hidden: new Set(), pins: [], drop: 1, cap: null, sort: ["score", null], filter: "", all: false,
};

const listeners = [];
const whenChanged = (names, action) => listeners.push([names.split(" "), action]);
function changed(...names) {
  for (const [wanted, action] of listeners) if (wanted.some((name) => names.includes(name))) action();
}

const whole = new Intl.NumberFormat("en-US");
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const counted = (number, noun) => `${whole.format(number)} ${noun}${number === 1 ? "" : "s"}`;
const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
const percent = (share) => (share >= 0.0995 ? `${(100 * share).toFixed(1)}%` : `${(100 * share).toPrecision(2)}%`);
const fixed = (value) => value.toFixed(2);

// Four digits, whole numbers up to a million, as `Score.number` writes them: Python's .4g has e-05 where toString has none.
function general(value) {
  if (Math.abs(value) >= 1e4 && Math.abs(value) < 1e6) return value.toFixed(0);
  const [digits, power] = value.toExponential(3).split("e");
  if (Number(power) >= -4 && Number(power) < 4) return `${Number(value.toPrecision(4))}`;
  return `${Number(digits)}e${power[0]}${power.slice(1).padStart(2, "0")}`;
}

// A score, or a loss, as it is written: `how` says its unit, and the bounds of a share.
const isShare = (how) => how.bounds && how.bounds[0] === 0 && how.bounds[1] === 1;
const numbered = (value, how) => (how.unit === "%" ? fixed(value) : isShare(how) ? value.toFixed(4) : general(value));
const united = (value, how) => `${numbered(value, how)} ${how.unit}`.trim();
// Never more than it is, as `terminal.likely`: what falls short of 80% is not written as 80%.
const percents = (share) => Math.floor(100 * share + 1e-9);
const likely = (share) => (share > 0.995 ? "over 99%" : `${percents(share) || "under 1"}%`);
const dropped = (value, how) => `${numbered(value, how)} ${how.unit_of_drops}`.trim();

function short(value) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${Number((value / size).toPrecision(3))}${unit}`;
  }
  return `${Number(value.toPrecision(3))}`;
}

const moment = (iso) => `${iso.slice(0, 10)} ${iso.slice(11, 16)}`;

function duration(seconds) {
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(2)} h`;
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1200);
}

const copyButton = (text, name = "Copy code") =>
  element("button", { type: "button", class: "link", text: name, onclick: (event) => copy(text, event.currentTarget) });
