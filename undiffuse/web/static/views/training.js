// A training: its curves as they come, its samples over time; stop, resume, extend.

import { curves, joined } from "../charts.js";
import { duration, facts, field, h, notice, number, put, say, select, swap } from "../dom.js";
import { api, follow, get, run } from "../net.js";
import { work } from "../pieces.js";
import { pill, share } from "./runs.js";

const POINTS = 200; // of the curve of training losses: each is the mean of as many steps as it takes

function means(points) {
  const size = Math.ceil(points.length / POINTS) || 1, found = [];
  for (let i = 0; i < points.length; i += size) {
    const group = points.slice(i, i + size);
    found.push([group.at(-1)[0], group.reduce((sum, [, loss]) => sum + loss, 0) / group.length]);
  }
  return found;
}

export async function training(detail, place) {
  const name = detail.name, at = run(name);
  let card = detail;
  const losses = curves("Loss over steps", "step", [["training", "faint"], ["held out", "accent"]]);
  const levels = curves("Held-out loss at each noise level", "log signal-to-noise", [["loss", "accent"]], { points: true });
  const told = h("div"), warnings = h("div", { class: "stack tight" }), buttons = h("div", { class: "row" });
  const bar = h("progress", { max: 1, "aria-label": "Progress of the training" });
  const status = work();
  const gallery = samples(at);

  let train = [], held = [], said = new Set(), notes = new Set(), seen = {}, due = null;

  function reset() { train = []; held = []; said = new Set(); notes = new Set(); }

  // One line of the run's log.
  function take(event) {
    seen = { ...seen, ...(event.event === "step" ? event : {}), step: event.step ?? seen.step };
    if (event.event === "step" && Number.isFinite(event.loss)) train.push([event.step, event.loss]);
    if (event.event === "held_out") {
      if (Number.isFinite(event.loss)) held.push([event.step, event.loss]);
      if (event.warning) said.add(event.warning);
      if (event.levels) spread(event.levels);
    }
    if (event.event === "samples") gallery.add(event.step);
    if (event.said) notes.add(event.said);
    due ??= setTimeout(draw, 200);
  }

  function spread(found) {
    const [x, y] = Object.values(found);
    const pairs = x.map((value, i) => [value, y[i]]).filter(([value]) => value !== null).sort((a, b) => a[0] - b[0]);
    levels.set(pairs.map((pair) => pair[0]), [pairs.map((pair) => pair[1])]);
    levels.element.hidden = !pairs.length;
  }

  function draw() {
    due = null;
    losses.set(...joined(means(train), held));
    const busy = card.state === "training" || card.state === "waiting";
    const now = { ...card, step: Math.max(card.step ?? 0, seen.step ?? 0), elapsed: seen.elapsed ?? card.elapsed };
    const done = share(now);
    bar.hidden = !busy;
    if (done !== null) bar.value = done;
    else bar.removeAttribute("value");
    swap(told, facts([["step", `${number(now.step)}${card.steps ? ` of ${number(card.steps)}` : ""}`], ["time", `${duration(now.elapsed)}${card.budget ? ` of ${duration(card.budget)}` : ""}`],
      ["left", busy ? duration(seen.left ?? card.left) : ""], ["rows per second", busy ? number(seen.rate ?? card.rows_per_second, 3) : ""],
      ["held-out loss", number(held.at(-1)?.[1] ?? card.held_out)], ["learning rate", busy && seen.lr ? number(seen.lr, 3) : ""], ...(card.facts ?? []).filter(([one]) => !/held-out loss/.test(one))]));
    swap(warnings, [...[...said].map((text) => notice(text)), ...[...notes].map((text) => h("p", { class: "muted" }, text))]);
  }

  function controls() {
    swap(place, pill(card.state, card.stopping));
    const busy = card.state === "training" || card.state === "waiting";
    const act = (word, path, kind = "quiet", body) => h("button", { type: "button", class: kind, disabled: card.stopping, onclick: () => change(word, path, body) }, word);
    swap(buttons, busy ? act(card.stopping ? "Stopping …" : "Stop", "stop") : [card.state === "stopped" && act("Resume", "resume", "primary"),
      ["stopped", "finished"].includes(card.state) && extension()]);
    if (busy) put(buttons, h("span", { class: "muted" }, "Closing this page stops nothing. What is trained is kept when it stops."));
  }

  function extension() {
    const unit = select([["budget", "in time (such as 20m)"], ["steps", "in steps"]], card.steps ? "steps" : "budget");
    const amount = h("input", { type: "text", size: "8", value: card.steps ? String(2 * card.step) : `${Math.max(1, Math.round((2 * (card.elapsed || 60)) / 60))}m`, "aria-label": "How long in all" });
    return h("details", null, h("summary", null, "Train for longer"), h("form", { class: "row", onsubmit: (event) => {
      event.preventDefault();
      change("Extend", "extend", { [unit.value]: unit.value === "steps" ? Number(amount.value) : amount.value });
    } }, field("How long in all", amount), field("Counted", unit), h("button", { class: "primary" }, "Extend")));
  }

  async function change(word, path, body) {
    const found = await status.attempt(api("POST", `${at}/${path}`, body ?? {}), word);
    if (!found) return;
    say(`${word}: done`);
    card = { ...card, ...found };
    controls();
    if (path !== "stop") listen();
  }

  // --- the log as it is written; a reload sees it from its beginning, so does a second browser

  let close = null, left = false;
  function listen() {
    close?.();
    reset();
    close = follow(`/api/v1${at}/events`, {
      message: take,
      begin: reset,
      lost: () => { told.classList.add("stale"); refresh(); },
      open: () => { told.classList.remove("stale"); refresh(); },
      end: () => { close = null; refresh(); },
    });
  }

  async function refresh() {
    try {
      const found = await get(at);
      if (left) return;
      card = found;
      for (const step of card.samples ?? []) gallery.add(step);
      if (card.curves?.levels) spread(card.curves.levels);
      for (const text of card.warnings ?? []) said.add(text);
      for (const text of card.notes ?? []) notes.add(text);
      if (card.problem) said.add(card.problem);
    } catch (problem) {
      if (problem.status === 404 && !left) { // deleted, or given up before it began
        close?.();
        close = null;
        swap(buttons);
        swap(warnings, notice("This run is no longer there.", "bad"));
      }
      return;
    }
    controls();
    draw();
  }
  const timer = setInterval(() => { if (close && !document.hidden) refresh(); }, 5000);

  const { curves: known, samples: steps = [], warnings: old = [], notes: chosenBy = [] } = detail;
  for (const text of old) said.add(text);
  for (const text of chosenBy) notes.add(text);
  for (const step of steps) gallery.add(step);
  if (known?.levels) spread(known.levels);
  else levels.element.hidden = true;
  if (card.state === "training" || card.state === "waiting") listen();
  else if (known) { train = known.train; held = known.held_out; }
  controls();
  draw();
  const chosen = Object.entries(detail.options ?? {});
  const element = h("div", { class: "stack" }, bar, buttons, status.element, told, warnings,
    h("div", { class: "two" }, h("div", { class: "stack" }, losses.element, levels.element), gallery.element),
    chosen.length > 0 && h("details", null, h("summary", null, "Options of the training"), facts(chosen.map(([key, value]) => [key.replaceAll("_", " "), String(value)]))));
  return { element, leave: () => { left = true; close?.(); clearInterval(timer); clearTimeout(due); losses.end(); levels.end(); } };
}

// The samples that training drew from the same seeds, with a slider over time.
function samples(at) {
  const steps = [];
  const image = h("img", { class: "picture", alt: "" });
  const words = h("output", { class: "muted" });
  const slider = h("input", { type: "range", min: "0", max: "0", value: "0", "aria-label": "Step of the training", oninput: () => show(Number(slider.value)) });
  const nothing = h("p", { class: "empty" }, "Samples appear here as training draws them, always from the same seeds.");
  const figure = h("div", { class: "stack tight", hidden: true }, image, h("div", { class: "row nowrap" }, slider, words));
  const element = h("figure", { class: "chart" }, h("figcaption", null, "Samples of fixed seeds"), nothing, figure);

  function show(i) {
    const step = steps[i];
    image.src = `/api/v1${at}/samples/${step}.png`;
    image.alt = `Samples at step ${number(step)}`;
    words.textContent = `step ${number(step)}`;
    slider.setAttribute("aria-valuetext", words.textContent);
  }
  return {
    element,
    add(step) {
      if (steps.includes(step)) return;
      const newest = Number(slider.value) === steps.length - 1 || !steps.length;
      steps.push(step);
      steps.sort((a, b) => a - b);
      nothing.hidden = true;
      figure.hidden = false;
      slider.max = steps.length - 1;
      slider.disabled = steps.length < 2;
      if (newest) { slider.value = steps.length - 1; show(steps.length - 1); }
    },
  };
}
