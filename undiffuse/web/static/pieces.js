// Pieces that several views share: rows as they are, files to drop, a job on its way.

import { heat, scatter, waveform } from "./charts.js";
import { fresh, h, number, put, say, size, svg, swap, table } from "./dom.js";
import { job, result, run, upload } from "./net.js";

// --- rows: each as its own picture, curve, sound or line of cells (see web/looks.py)

// Wide pictures, such as channels side by side, get wide tiles.
function broad({ target }) {
  if (target.naturalWidth > 2 * target.naturalHeight) target.closest(".tiles")?.classList.add("broad");
}

// One row, as large as its place. `label` is what a screen reader says.
export function row(item, columns, label) {
  if (item.picture) return h("img", { class: "tile", src: item.picture, alt: label, onload: broad });
  if (item.curves) return h("div", { class: "tile" }, waveform(label, item.curves, { zero: Boolean(item.sound) }));
  return h("dl", { class: "cells", "aria-label": label }, item.cells.map((cell, i) =>
    h("div", null, h("dt", null, columns[i]), h("dd", null, cell === "" ? "–" : cell))));
}

export const player = (item, label) => item.sound && h("audio", { controls: true, preload: "metadata", src: item.sound, "aria-label": label });

// All rows: tiles, or a table of their cells with the picture of all of them. `chosen(i)` opens one.
export function rows(shown, label, chosen = null) {
  if (!shown.items.length) return h("p", { class: "muted" }, "No rows.");
  if (!shown.items[0].cells) {
    const wide = shown.items[0].curves ? "waves" : "tiles";
    return h("div", { class: wide, role: "group", "aria-label": label }, shown.items.map((item, i) => {
      const name = `${label} ${i + 1}`;
      const face = chosen ? h("button", { type: "button", class: "face", "aria-label": `Open ${name}`, onclick: () => chosen(i) }, row(item, shown.columns, "")) : row(item, shown.columns, name);
      return h("div", { class: "tilebox" }, face, player(item, `Play ${name}`));
    }));
  }
  const head = chosen ? ["", ...shown.columns] : shown.columns;
  return h("div", { class: "stack" },
    shown.picture && h("img", { class: "picture", src: shown.picture, alt: shown.columns.length > 2 ? `${label}: histograms of the columns` : `${label}: all together` }),
    table(label, head, shown.items.map((item, i) => [
      ...(chosen ? [h("button", { type: "button", class: "link", "aria-label": `Open ${label} ${i + 1}`, onclick: () => chosen(i) }, `${i + 1}`)] : []),
      ...item.cells.map((cell) => (cell === "" ? h("span", { class: "muted" }, "–") : cell))])));
}

export const plane = (shown) => !shown.modelled?.some((name) => !/^\d+$/.test(name)) && shown.columns?.length === 2;
export const cells = (item) => item.cells.map(Number);
export { heat, scatter };

// --- files: dropped, or chosen from a dialog; `taken(files)` gets all at once

export function files(words, suffixes, taken, { folders = false, many = folders } = {}) {
  const hint = fresh("hint");
  const pick = (properties, text) => {
    const input = h("input", { type: "file", hidden: true, tabindex: "-1", accept: properties.webkitdirectory ? null : suffixes, multiple: many, ...properties });
    input.addEventListener("change", () => { if (input.files.length) taken([...input.files]); input.value = ""; });
    return [input, h("button", { type: "button", class: "quiet", "aria-describedby": hint, onclick: () => input.click() }, text)];
  };
  const zone = h("div", { class: "drop" },
    svg("svg", { viewBox: "0 0 24 24", width: 28, height: 28, "aria-hidden": "true", class: "sign" }, svg("path", { d: "M12 15V4m0 0L7.500 8.500M12 4l4.500 4.500M4 15v4h16v-4" })),
    h("p", { id: hint }, words),
    h("div", { class: "row" }, pick({}, many ? "Choose files" : "Choose a file"), folders && pick({ webkitdirectory: true }, "Choose a folder")));
  const over = (on) => (event) => { event.preventDefault(); zone.classList.toggle("aimed", on); };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", async (event) => {
    over(false)(event);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const found = entries.length ? (await Promise.all(entries.map((entry) => within(entry, "")))).flat() : [...event.dataTransfer.files];
    if (found.length) taken(found);
  });
  return zone;
}

// The files in what was dropped, each with its path.
async function within(entry, path) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    file.path = path + file.name;
    return [file];
  }
  const reader = entry.createReader(), found = [];
  for (;;) { // a reader gives a hundred at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map((one) => within(one, `${path}${entry.name}/`)))).flat();
}

export const named = (list) => {
  const bytes = list.reduce((sum, file) => sum + file.size, 0);
  const top = (list[0].path || list[0].webkitRelativePath || "").split("/");
  return `${list.length === 1 ? list[0].name : top.length > 1 ? `${top[0]}/` : `${list[0].name} and ${list.length - 1} more`} (${list.length > 1 ? `${number(list.length)} files, ` : ""}${size(bytes)})`;
};

// --- a job: its progress, a button that cancels it, and what goes wrong, in one place

export function work() {
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const words = h("span", { class: "muted" });
  const stop = h("button", { type: "button", class: "quiet small" }, "Cancel");
  const line = h("div", { class: "work", hidden: true }, bar, words, stop);
  const trouble = h("div"), sending = h("div"), notes = h("div", { class: "stack tight" });
  const element = h("div", { class: "works stack tight" }, line, trouble, sending, notes);
  let running = null;

  // Start a job; resolves to its last state, or null if it failed or was cancelled.
  async function start(path, body, what, seen = () => {}) {
    running?.abort();
    const mine = (running = new AbortController());
    trouble.replaceChildren();
    notes.replaceChildren();
    line.hidden = false;
    bar.removeAttribute("value");
    words.textContent = `${what} …`;
    stop.onclick = () => { words.textContent = "Cancelling …"; mine.abort(); };
    say(`${what} has begun`);
    try {
      const state = await job(path, body, (now) => {
        if (running !== mine) return;
        if (now.of) { bar.max = now.of; bar.value = now.done; }
        words.textContent = now.state === "waiting" ? `Waiting${now.place > 0 ? `: number ${now.place} in the queue` : ""} …` : `${what}${now.of ? `: ${number(now.done)} of ${number(now.of)}` : " …"}`;
        seen(now);
      }, mine.signal);
      if (running !== mine) return null;
      put(notes, (state.notes ?? []).map((note) => h("p", { class: "notice" }, note.replaceAll(/--(?=[a-z])/g, "")))); // an option has no dashes here
      say(`${what} is done`);
      return state;
    } catch (problem) {
      if (running === mine) complain(problem);
      return null;
    } finally {
      if (running === mine) { line.hidden = true; running = null; }
    }
  }

  function complain(problem) {
    swap(trouble, h("p", { class: problem.status === 499 ? "notice" : "notice bad", role: "alert" }, problem.message));
    if (problem.status === undefined) console.error(problem);
  }

  // Await something, and say what went wrong; null then.
  async function attempt(promise, what) {
    trouble.replaceChildren();
    if (what) { line.hidden = false; stop.hidden = true; bar.removeAttribute("value"); words.textContent = `${what} …`; }
    try {
      return await promise;
    } catch (problem) {
      complain(problem);
      return null;
    } finally {
      if (what) { line.hidden = true; stop.hidden = false; }
    }
  }

  // Send files, and say which of them were left out; null if none were taken.
  async function send(list) {
    sending.replaceChildren();
    const sent = await attempt(upload(list), `Sending ${named(list)}`);
    const out = sent?.left_out ?? [], most = 3;
    if (out.length) put(sending, h("p", { class: "notice" }, `Left out, as files of other kinds: ${out.slice(0, most).join(", ")}${out.length > most ? ` and ${number(out.length - most)} more` : ""}.`));
    return sent;
  }

  return { element, start, attempt, send, complain, clear: () => [trouble, sending, notes].forEach((one) => one.replaceChildren()), end: () => running?.abort() };
}

// Look at something of a run that a job works out; null if it failed. `work` shows how far it is.
export async function looked(work, name, what, body, words) {
  const state = await work.start(`${run(name)}/looks/${what}`, body, words);
  return state && work.attempt(result(state));
}
