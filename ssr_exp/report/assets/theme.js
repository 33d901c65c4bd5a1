// Light and dark: the reader's choice, else the system's.
const root = document.documentElement;
const ink = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

function remembered() {
  try { return localStorage.getItem("ssr_exp-theme"); } catch { return null; }
}

function setTheme(name) {
  root.dataset.theme = name;
  root.style.colorScheme = name;
  byId("theme").textContent = name === "dark" ? "Light" : "Dark";
  changed("theme");
}

byId("theme").addEventListener("click", () => {
  const name = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("ssr_exp-theme", name); } catch { /* it is forgotten, then */ }
  setTheme(name);
});

setTheme(remembered() || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
