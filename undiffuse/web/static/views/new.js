// A new run: data, what is found in them, how to train; start.

import { histogram, shares } from "../charts.js";
import { facts, field, h, notice, put, say, select, swap, table } from "../dom.js";
import { api, get, run } from "../net.js";
import { files, work } from "../pieces.js";

const BUDGETS = [["1m", "1 minute: a first look"], ["5m", "5 minutes"], ["10m", "10 minutes"], ["30m", "30 minutes"], ["2h", "2 hours"], ["8h", "8 hours"], ["steps", "a number of steps …"], ["other", "another time …"]];
const OWN = ["preset", "steps", "budget", "seed"]; // they have controls of their own

export async function fresh_run() {
  const [sources, options] = await Promise.all([get("/sources"), get("/options")]);
  let source = null, found = null, turn = 0;
  const status = work();
  const about = h("div", { "aria-live": "polite" });
  const suffixes = Object.values(options.uploads ?? {}).flat();

  // --- 1. data

  const zone = files("Drop images, a folder of them, an .npy, .csv, .parquet or .wav file here", suffixes.join(","), async (list) => {
    const sent = await status.send(list);
    if (sent) await choose({ upload: sent.id }, `/uploads/${sent.id}`, sent.name);
  }, { folders: true });
  const builtin = h("div", { class: "row" }, sources.builtin.map((name) =>
    h("button", { type: "button", class: "quiet small", onclick: () => choose({ builtin: name }, `/sources/info?builtin=${encodeURIComponent(name)}`, name) }, name)));
  const entries = sources.folders.flatMap(({ root, entries }) => [root, ...entries.map((entry) => `${root}/${entry}`)]);
  const list = entries.length > 0 && select([["", "choose …"], ...entries.map((entry) => [entry, entry])], "", { onchange: () => list.value && choose({ folder: list.value }, `/sources/info?folder=${encodeURIComponent(list.value)}`, list.value.split("/").at(-1)) });

  async function choose(what, path, title) {
    const mine = ++turn;
    if (!what.upload) status.clear();
    swap(about);
    source = found = null;
    ready();
    const told = await status.attempt(get(path), `Reading ${title}`);
    if (!told || mine !== turn) return;
    source = what;
    found = told;
    if (!name.value || name.dataset.own !== "yes") name.value = plain(title);
    swap(about, described(found, title));
    say(`${title} was read`);
    ready();
  }

  // --- 2. how

  const name = h("input", { type: "text", required: true, maxlength: "64", pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]*", autocomplete: "off", oninput: () => { name.dataset.own = name.value ? "yes" : ""; ready(); } });
  const preset = select(options.presets.map((one) => [one.name, one.name]), "edm", { onchange: () => explain() });
  const about_preset = h("small");
  const budget = select(BUDGETS, "5m", { onchange: () => { other.hidden = budget.value !== "other"; steps.hidden = budget.value !== "steps"; } });
  const seconds = h("input", { type: "text", value: "45m", size: "8" });
  const count = h("input", { type: "number", min: "1", value: "2000" });
  const other = h("div", { hidden: true }, field("Time", seconds, "such as 90s, 45m or 3h"));
  const steps = h("div", { hidden: true }, field("Steps", count));
  const seed = h("input", { type: "number", min: "0", value: "0" });
  const advanced = h("div", { class: "stack" });
  const controls = new Map();

  function explain() {
    const own = options.presets.find((one) => one.name === preset.value);
    about_preset.textContent = own?.help ?? "";
    const places = { own: h("div", { class: "options" }), all: h("div", { class: "options" }) };
    controls.clear();
    for (const option of options.train) {
      if (OWN.includes(option.name)) continue;
      const mine = option.name.startsWith("model.") ? own?.sizes.includes(option.name.slice(6)) : own?.options.includes(option.name);
      const general = !option.name.startsWith("model.") && !options.presets.some((one) => one.options.includes(option.name));
      if (!mine && !general) continue;
      const control = input(option);
      controls.set(option.name, [option, control]);
      put(mine ? places.own : places.all, field(option.name.replace(/^\w+\./, "").replaceAll(/[_-]/g, " "), control, option.help));
    }
    swap(advanced, places.own.children.length > 0 && [h("h3", null, `Of preset ${preset.value}`), places.own], h("h3", null, "Of training and data"), places.all);
  }

  function wanted() {
    const chosen = {};
    for (const [key, [option, control]] of controls) {
      const text = control.value.trim();
      if (text === "") continue;
      chosen[key] = option.type === "switch" ? text === "yes" : option.type === "whole" || option.type === "number" ? Number(text) : option.type === "list" ? text.split(",").map((word) => word.trim()).filter(Boolean) : text;
    }
    return chosen;
  }

  const start = h("button", { class: "primary", disabled: true }, "Start training");
  const why = h("span", { class: "muted" });
  function ready() {
    const missing = !source ? "Choose data first." : !name.checkValidity() ? "Give the run a name of letters, digits, . _ and -." : "";
    start.disabled = Boolean(missing);
    why.textContent = missing;
  }

  async function begin(event) {
    event.preventDefault();
    start.disabled = true;
    const length = budget.value === "steps" ? { steps: Number(count.value) } : { budget: budget.value === "other" ? seconds.value : budget.value };
    const card = await outcome.attempt(api("POST", "/runs", { name: name.value, source, preset: preset.value, seed: Number(seed.value), ...length, options: wanted() }), "Starting");
    ready();
    if (card) location.hash = `#${run(card.name).replace("/runs", "/run")}/training`;
  }

  const outcome = work();
  explain();
  ready();
  const element = h("div", { class: "narrow wide" }, h("h1", null, "New run"),
    h("section", { class: "stack", "aria-labelledby": "new-data" }, h("h2", { id: "new-data" }, "1. Data"), zone,
      h("div", { class: "stack tight" }, h("span", { class: "label" }, "Or data that are here:"), builtin), list && field("Or from a folder of the server", list), status.element, about),
    h("form", { class: "stack", onsubmit: begin, "aria-labelledby": "new-how" }, h("h2", { id: "new-how" }, "2. Training"),
      h("div", { class: "options" }, field("Name of the run", name), h("div", null, field("Preset", preset), about_preset), h("div", { class: "stack tight" }, field("How long", budget), other, steps), field("Seed", seed, "the same seed gives the same model after as many steps")),
      h("details", null, h("summary", null, "Advanced options"), h("p", { class: "muted" }, "Empty: chosen from the data."), advanced),
      h("div", { class: "row" }, start, why), outcome.element));
  return { title: "New run", element, leave: () => {} };
}

const plain = (text) => text.normalize("NFKD").replace(/\.[A-Za-z0-9]{1,8}$/, "").replaceAll(/[^A-Za-z0-9_.\-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 60) || "run";

// A control for an option, empty unless it is set; its default stands in it as a shadow.
function input(option) {
  const shadow = option.default === null || option.default === undefined ? "" : String(option.default);
  if (option.type === "choice") return select([["", shadow ? `default (${shadow})` : "default"], ...option.choices], "");
  if (option.type === "switch") return select([["", shadow ? `default (${option.default ? "yes" : "no"})` : "default"], "yes", "no"], "");
  const whole = option.type === "whole";
  return h("input", { type: whole || option.type === "number" ? "number" : "text", placeholder: shadow, max: option.most ?? null, step: whole ? "1" : "any", autocomplete: "off" });
}

// What `info` finds of data, before anything is trained.
export function described(found, title) {
  const kinds = { images: "some of the images", recordings: "some of the recordings", tables: "histograms of the columns" };
  const bars = found.columns.filter((column) => column.histogram).map((column) => {
    const { edges, values, counts } = column.histogram;
    const total = counts.reduce((sum, count) => sum + count, 0);
    return h("div", { class: "column" }, h("h4", { title: column.name }, column.name), h("p", { class: "muted" }, column.type),
      edges ? histogram(column.name, counts, String(Number(edges[0].toPrecision(4))), String(Number(edges.at(-1).toPrecision(4)))) : shares(column.name, values.map((value, i) => [value, counts[i] / total]), { most: 5 }));
  });
  return h("section", { class: "panel stack", "aria-label": `What was found in ${title}` }, h("h3", { class: "long" }, title),
    facts(found.facts.filter(([name]) => name !== "name")), found.notes.map((note) => notice(note)),
    found.rows ? table(`The rows of ${title}`, found.rows.columns, found.rows.cells.map((line) => line.map((cell) => cell || "–")))
      : bars.length ? h("div", { class: "columns" }, bars) : found.preview && h("img", { class: "picture", src: found.preview, alt: `${title}: ${kinds[found.kind] ?? "some of the rows"}` }));
}
