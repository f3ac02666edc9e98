// Completing: what is painted over, cut off or left empty is drawn given the rest.

import { histogram, shares, waveform } from "../charts.js";
import { field, h, notice, number, say, swap, table } from "../dom.js";
import { painter } from "../mask.js";
import { api, run, upload } from "../net.js";
import { npy, places } from "../npy.js";
import { files, looked, player, rows, work } from "../pieces.js";

export async function complete(detail) {
  return detail.kind === "tables" ? cells_of(detail) : parts_of(detail);
}

// --- arrays, images, sound

async function parts_of(detail) {
  const at = run(detail.name), status = work();
  const stage = h("div", { class: "stack" }), out = h("div", { class: "stack" });
  const k = h("input", { type: "number", min: "1", max: "64", value: "8" }), seed = h("input", { type: "number", min: "0", value: "0" });
  let held = 0, editor = null, shown = null;

  const begin = (found, notes = []) => {
    if (!found) return;
    shown = found;
    editor = edit(found);
    swap(stage, notes.map((note) => notice(note)), editor.element);
    swap(out);
  };
  const rows_at = (body, words) => status.attempt(api("POST", `${at}/looks/rows`, { ...body, values: true }), words);
  const real = async () => begin(await rows_at({ held_out: true, rows: [held++] }, "Reading a held-out row"));
  async function drawn() {
    const state = await status.start(`${at}/sample`, { n: 1, seed: Math.floor(Math.random() * 1e6), form: "npy" }, "Drawing a sample");
    if (state) begin(await rows_at({ job: state.id, rows: [0] }, "Showing"));
  }
  async function own(list) {
    const sent = await status.send(list);
    const found = sent && await rows_at({ upload: sent.id, rows: [0] }, "Reading");
    if (found) begin(found, found.notes);
  }

  async function fill(event) {
    event.preventDefault();
    const hidden = editor?.gaps();
    if (!hidden || !hidden.some(Boolean)) return status.complain({ message: "Nothing is to be drawn anew yet: paint over a part, or cut some off.", status: 499 });
    const values = shown.items[0].values.map((value, i) => (hidden[i] ? null : value));
    const sent = await status.attempt(upload([npy(values, [1, ...shown.row_shape])]), "Sending");
    if (!sent) return;
    const live = h("img", { class: "picture", alt: "What is being drawn, as it is estimated so far" });
    const state = await status.start(`${at}/complete`, { upload: sent.id, n: Number(k.value), seed: Number(seed.value), form: "npy" }, `Drawing ${k.value} completions`, (now) => {
      if (now.preview) { live.src = now.preview; if (!live.isConnected) swap(out, live); }
    });
    const found = state && await status.attempt(api("POST", `${at}/looks/rows`, { job: state.id }), "Showing");
    if (!found) return swap(out);
    swap(out, h("h3", null, "Completions"), rows(found, "completion"), h("p", null, h("a", { class: "button", href: `/api/v1/jobs/${state.id}/result`, download: `${detail.name}-completions.npy` }, "Download (.npy)")));
    say(`${k.value} completions are drawn`);
  }

  const what = { images: "an image", recordings: "a recording" }[detail.kind] ?? "an .npy file";
  const element = h("div", { class: "two" },
    h("div", { class: "stack" },
      h("div", { class: "row" }, h("button", { type: "button", class: "quiet", onclick: real }, "A held-out row"), h("button", { type: "button", class: "quiet", onclick: drawn }, "A new sample")),
      files(`or drop ${what} of your own`, "", own), stage),
    h("div", { class: "stack" }, h("form", { class: "row tools", onsubmit: fill }, field("Completions", k), field("Seed", seed), h("button", { class: "primary" }, "Complete")), status.element, out));
  real();
  return { element, leave: status.end };
}

// What a person can do with a row: paint over a picture, cut a sequence, empty numbers of a vector.
// `gaps()` says of each value whether it is to be drawn.
function edit(shown) {
  const [item] = shown.items, shape = shown.row_shape, axes = shown.axes ?? "";
  const side = (letter) => shape[axes.indexOf(letter)];
  if (item.picture) {
    const wide = side("W"), tall = side("H");
    const panes = h("div", { class: "stack tight" });
    const found = { gaps: () => null, element: panes };
    const image = new Image();
    image.onload = () => {
      const hidden = Array(wide * tall).fill(false);
      places(shape, axes, (i, place) => { hidden[place.H * wide + place.W] ||= item.values[i] === null; });
      const paint = painter(item.picture, wide, tall, hidden, Math.max(1, Math.round((image.naturalWidth / image.naturalHeight) * (tall / wide))));
      swap(panes, paint.element);
      found.gaps = () => {
        const gaps = [];
        places(shape, axes, (i, place) => { gaps[i] = hidden[place.H * wide + place.W]; });
        return gaps;
      };
    };
    image.src = item.picture;
    return found;
  }
  if (item.curves) {
    const letter = axes.includes("T") ? "T" : axes.at(-1), length = side(letter);
    const [from, to] = [["Keep from", 0], ["to", Math.round(length / 2)]].map(([text, value]) => h("input", { type: "range", min: "0", max: String(length), value: String(value), "aria-label": text, oninput: () => draw() }));
    const place = h("div"), words = h("output", { class: "muted" });
    function draw() {
      const ends = [Number(from.value), Number(to.value)].sort((a, b) => a - b);
      swap(place, waveform("The row; what is kept is shaded", item.curves, { shade: ends.map((end) => end / length), zero: Boolean(item.sound), tall: 60 }));
      const unit = shown.rate ? (value) => `${(value / shown.rate).toFixed(2)} s` : (value) => number(value);
      words.textContent = `${unit(ends[0])} to ${unit(ends[1])} is kept, of ${unit(length)}`;
    }
    draw();
    return {
      element: h("div", { class: "stack tight" }, place, h("label", { class: "row nowrap" }, h("span", { class: "muted short" }, "from"), from), h("label", { class: "row nowrap" }, h("span", { class: "muted short" }, "to"), to), words, player(item, "Play the row")),
      gaps: () => {
        const [low, high] = [Number(from.value), Number(to.value)].sort((a, b) => a - b), gaps = [];
        places(shape, axes, (i, at) => { gaps[i] = at[letter] < low || at[letter] >= high; });
        return gaps;
      },
    };
  }
  const inputs = item.values.map((value, i) => h("input", { type: "number", step: "any", value: value === null ? "" : String(value), "aria-label": `value ${i}` }));
  return {
    element: h("div", { class: "stack tight" }, h("p", { class: "muted" }, "Empty what is to be drawn."), h("div", { class: "options" }, inputs.map((input, i) => field(shown.columns[i] ?? String(i), input)))),
    gaps: () => inputs.map((input, i) => { if (input.value !== "") item.values[i] = Number(input.value); return input.value === ""; }),
  };
}

// --- tables: a row to edit

async function cells_of(detail) {
  const at = run(detail.name), status = work();
  const out = h("div", { class: "stack" }), form = h("form", { class: "stack", onsubmit: fill });
  let inputs = [], held = 0;

  async function real() {
    const found = await status.attempt(api("POST", `${at}/looks/rows`, { held_out: true, rows: [held++] }), "Reading a held-out row");
    if (!found) return;
    const cell = new Map(found.columns.map((name, i) => [name, found.items[0].cells[i]]));
    inputs = found.modelled.map((name) => [name, h("input", { type: "text", value: cell.get(name) ?? "", placeholder: "empty: is drawn", autocomplete: "off" })]);
    swap(form, h("div", { class: "options" }, inputs.map(([name, input]) => field(name, input))), h("div", { class: "row" }, h("button", { class: "primary" }, "Fill the empty cells"), h("button", { type: "button", class: "quiet", onclick: () => { for (const [, input] of inputs) input.value = ""; inputs[0]?.[1].focus(); } }, "Empty all"),
      h("button", { type: "button", class: "quiet", onclick: real }, "Another held-out row")));
    swap(out, h("p", { class: "empty" }, "Empty one cell or more, then fill them: each shows how it is distributed given the others, over 64 draws."));
  }

  async function fill(event) {
    event.preventDefault();
    if (inputs.every(([, input]) => input.value !== "")) return status.complain({ message: "No cell is empty: there is nothing to draw.", status: 499 });
    const found = await looked(status, detail.name, "cells", { cells: Object.fromEntries(inputs.map(([name, input]) => [name, input.value])) }, "Drawing 64 rows");
    if (!found) return;
    swap(out, found.notes.map((note) => notice(note)),
      h("div", { class: "columns" }, Object.entries(found.empty).map(([name, spread]) => h("div", { class: "column" }, h("h4", { title: name }, name), distribution(name, spread)))),
      h("h3", null, "Eight of the rows"), table("completed rows", found.columns, found.rows));
    say("The empty cells are filled");
  }

  await real();
  return { element: h("div", { class: "two" }, h("div", { class: "stack" }, form), h("div", { class: "stack" }, status.element, out)), leave: status.end };
}

function distribution(name, spread) {
  const missing = spread.missing > 0 && h("p", { class: "muted" }, `${Math.round(spread.missing * 100)} % missing`);
  if (spread.bars) return [shares(name, spread.bars), missing];
  const [low, middle, high] = spread.quantiles;
  return [histogram(name, spread.counts, spread.low, spread.high), h("p", null, h("strong", null, middle), h("span", { class: "muted" }, ` (90 %: ${low} to ${high})`)), missing];
}
