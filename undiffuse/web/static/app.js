// The shell: which view is shown, colours, and what all views share.

import { h, notice, say, swap } from "./dom.js";
import { how } from "./views/how.js";
import { fresh_run } from "./views/new.js";
import { one_run } from "./views/run.js";
import { runs } from "./views/runs.js";
import { comparison } from "./views/report.js";

const main = document.getElementById("main");

const PAGES = [
  [/^\/?$/, "runs", () => runs()],
  [/^\/new$/, "new", () => fresh_run()],
  [/^\/how$/, "how", () => how()],
  [/^\/compare\/(.+)$/, "runs", (names) => comparison(names.split(",").map(decodeURIComponent))],
  [/^\/run\/([^/]+)(?:\/([a-z]+))?$/, "runs", (name, tab) => one_run(decodeURIComponent(name), tab ?? "training")],
];

// A view is {title, element, leave?}: `leave` ends its streams.
let leave = null;
let turn = 0;

async function show() {
  const path = location.hash.slice(1).split("?")[0]; // still encoded: a view decodes what is a name
  if (location.hash && !location.hash.startsWith("#/")) return; // a place in the page
  const mine = ++turn;
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  leave?.();
  leave = null;
  const [pattern, page, view] = PAGES.find(([one]) => one.test(path)) ?? [/^/, "", nowhere];
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  let shown;
  main.setAttribute("aria-busy", "true");
  try {
    shown = await view(...(path.match(pattern) ?? []).slice(1));
  } catch (problem) {
    shown = { title: "Problem", element: h("div", { class: "narrow" }, h("h1", null, "This page could not be shown"),
      notice(problem.message, "bad"), h("p", null, h("a", { class: "button", href: "#/" }, "All runs"))) };
    if (!problem.status) console.error(problem);
  }
  if (mine !== turn) return shown.leave?.(); // another page was asked for meanwhile
  main.removeAttribute("aria-busy");
  leave = shown.leave ?? null;
  document.title = `${shown.title} · undiffuse`;
  swap(main, shown.element);
  say(shown.title);
  if (turn > 1) main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function nowhere() {
  return { title: "Not found", element: h("div", { class: "narrow" }, h("h1", null, "There is no such page"),
    h("p", null, h("a", { class: "button", href: "#/" }, "All runs"))) };
}

// --- colours: as the system has them, light, dark

const THEMES = [["", "as the system has them", "◐"], ["light", "light", "☀"], ["dark", "dark", "☾"]];
const button = document.getElementById("theme");
let theme = 0;

function paint() {
  const [name, words, sign] = THEMES[theme];
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  button.setAttribute("aria-label", `Colours: ${words}`);
  button.title = `Colours: ${words}`;
  button.firstElementChild.textContent = sign;
  document.dispatchEvent(new Event("colours"));
}

function remembered(name, value) { // storage can be forbidden: then nothing is kept
  try {
    return value === undefined ? localStorage.getItem(name) : localStorage.setItem(name, value);
  } catch {
    return null;
  }
}

button.addEventListener("click", () => {
  theme = (theme + 1) % THEMES.length;
  remembered("theme", THEMES[theme][0]);
  paint();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });

theme = Math.max(0, THEMES.findIndex(([name]) => name === (remembered("theme") ?? "")));
paint();
window.addEventListener("hashchange", show);
show();
