// Pinned networks, side by side.
const MOST_PINS = 8;

const everything = () => [...study().networks, ...study().points];
const pinned = () => state.pins.map((key) => everything().find((network) => network.key === key)).filter(Boolean);
const isPinned = (network) => state.pins.includes(network.key);

function pin(network) {
  if (isPinned(network)) state.pins = state.pins.filter((key) => key !== network.key);
  else state.pins = [...state.pins, network.key].slice(-MOST_PINS);
  changed("pins");
}

function showPins() {
  const shown = pinned();
  if (!shown.length) {
    byId("pins").replaceChildren(element("p", { class: "note", text: "Click a point of the chart, or tick a row below, to compare networks here. Dashed boxes are the blocks and channels of the seed network." }));
    return;
  }
  const told = shown.map((network) => new Map(facts(network)));
  const names = [...new Set(told.flatMap((one) => [...one.keys()]))];
  const row = (name, cells, scope) => element("tr", {}, element("th", { scope: "row", class: "text", text: name }), cells.map((cell) => element(scope || "td", { class: "text", scope: scope && "col" }, cell)));
  const head = row("network", shown.map((network) => [element("span", { class: "code", text: network.code }),
    element("div", { class: "actions" }, copyButton(network.code),
      element("button", { type: "button", class: "link", text: "Unpin", "aria-label": `Unpin ${network.code}`, onclick: () => { pin(network); (byId("pins").querySelector("[aria-label^=Unpin]") || byId("pins")).focus(); } }))]), "th");
  const body = [row("segments", shown.map((network) => [drawing(network) || ""])), ...names.map((name) => row(name, told.map((one) => [one.get(name) ?? ""])))];
  byId("pins").replaceChildren(element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Pinned networks" },
    element("table", { class: "compared" }, element("thead", {}, head), element("tbody", {}, body))));
}

whenChanged("study pins", showPins);
