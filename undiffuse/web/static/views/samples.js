// Samples: drawn while one looks on; each with its way from noise, its nearest training row, its likelihood.

import { curves, scatter } from "../charts.js";
import { fresh, h, number, say, select, swap, field } from "../dom.js";
import { api, run, save } from "../net.js";
import { cells, looked, plane, player, row, rows, work } from "../pieces.js";

const FORMS = { tables: ["csv", "parquet"], images: ["zip", "png", "npy", "npz"], recordings: ["zip", "npy", "npz"], arrays: ["npy", "npz", "png"] };
const WORDS = { zip: "a folder (.zip)", png: "one picture (.png)", npy: "an array (.npy)", npz: "an array (.npz)", csv: "a table (.csv)", parquet: "a table (.parquet)" };

export const shown_as = (detail) => (detail.kind === "tables" ? "csv" : "npy");

export async function samples(detail) {
  const at = run(detail.name);
  const status = work();
  let last = null; // what was asked for, and the job that drew it
  const n = h("input", { type: "number", min: "1", max: "256", value: "16", required: true });
  const seed = h("input", { type: "number", min: "0", value: "0", required: true });
  const label = detail.labels?.length > 0 && select([["", "as in the data"], ...detail.labels], "");
  const guidance = (detail.labels?.length > 0 || detail.conditions.length > 0) && detail.diffusion && h("input", { type: "number", min: "0", step: "0.1", placeholder: detail.sampler?.guidance ? String(detail.sampler.guidance) : "1 (off)" });
  const method = detail.methods?.length > 0 && select([["", detail.sampler?.method ? `as tuned (${detail.sampler.method})` : "default"], ...detail.methods], "");
  const steps = detail.diffusion && h("input", { type: "number", min: "1", max: "1000", placeholder: String(detail.sampler?.steps ?? "default") });
  const where = detail.conditions.map((name) => [name, h("input", { type: "text", placeholder: "as in the data" })]);
  const out = h("div", { class: "stack" });
  const download = h("div", { class: "row tools", hidden: true });

  function asked() {
    const body = { n: Number(n.value), seed: Number(seed.value) };
    if (label && label.value) body.label = label.value;
    if (guidance && guidance.value) body.guidance = Number(guidance.value);
    if (method && method.value) body.method = method.value;
    if (steps && steps.value) body.steps = Number(steps.value);
    const given = where.filter(([, input]) => input.value.trim()).map(([name, input]) => [name, Number.isNaN(Number(input.value)) ? input.value : Number(input.value)]);
    if (given.length) body.where = Object.fromEntries(given);
    return body;
  }

  async function draw(event) {
    event?.preventDefault();
    const body = asked();
    const live = h("img", { class: "picture", alt: "What is being drawn, as it is estimated so far" });
    swap(out);
    download.hidden = true;
    const state = await status.start(`${at}/sample`, { ...body, form: shown_as(detail) }, `Drawing ${body.n}`, (now) => {
      if (now.preview) { live.src = now.preview; if (!live.isConnected) swap(out, live); }
    });
    if (!state) return swap(out);
    const shown = await status.attempt(api("POST", `${at}/looks/rows`, { job: state.id, rows: [...Array(body.n).keys()] }), "Showing");
    if (!shown) return;
    last = { body, job: state.id, shown };
    swap(out, rows(shown, "sample", open));
    download.hidden = false;
    say(`${body.n} samples are drawn`);
  }

  const form = select((FORMS[detail.kind] ?? FORMS.arrays).map((one) => [one, WORDS[one]]), detail.form, { "aria-label": "Form of the download" });
  async function fetch_all() {
    const state = await status.start(`${at}/sample`, { ...last.body, form: form.value }, "Writing");
    if (state) save(`/api/v1/jobs/${state.id}/result`, `${detail.name}.${form.value}`);
  }
  swap(download, form, h("button", { type: "button", class: "quiet", onclick: fetch_all }, "Download"));

  // --- one sample

  function open(i) {
    const title = fresh("title");
    const inner = work();
    const way = h("div", { class: "stack tight" }), near = h("div", { class: "stack tight" }), nats = h("div", { class: "stack tight" });
    const item = last.shown.items[i];
    const dialog = h("dialog", { class: "wide", "aria-labelledby": title },
      h("div", { class: "row between" }, h("h2", { id: title }, `Sample ${i + 1}, seed ${last.body.seed}`), h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close")),
      inner.element, h("div", { class: "two" }, h("div", { class: "stack" }, h("h3", null, "Sample"), row(item, last.shown.columns, `Sample ${i + 1}`), player(item, "Play"), way), h("div", { class: "stack" }, near, nats)));
    dialog.addEventListener("close", () => { inner.end(); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
    const which = { job: last.job, row: i };
    const { n: _, ...drawn } = last.body;
    (async () => {
      const path = await looked(inner, detail.name, "path", { ...drawn, row: i }, "Drawing its path again");
      if (path?.frames.length) swap(way, scrubber(path, last.shown));
      const found = dialog.open && await looked(inner, detail.name, "nearest", which, "Looking for the nearest training row");
      if (found) swap(near, h("h3", null, "Nearest training row"), row(found.item, found.columns, "Nearest training row"), player(found.item, "Play"),
        h("p", { class: "muted" }, `${number(found.distance, 3)} away at unit scale; a held-out row is ${number(found.usual, 3)} away, in the median. ${found.looked_at < found.training ? `Of ${number(found.training)} training rows ${number(found.looked_at)} were looked at.` : ""}`));
      if (!detail.likelihood || !dialog.open) return;
      const scored = await looked(inner, detail.name, "likelihood", which, "Working out its likelihood");
      if (scored) swap(nats, h("h3", null, "Log-likelihood"), h("p", null, h("strong", null, `${number(scored.nats, 5)} nats`), scored.stderr ? ` ± ${number(scored.stderr, 2)}` : ""), h("p", { class: "muted" }, plainly(scored.meaning)));
    })();
  }

  const curve = detail.sampler?.curve ?? [];
  const chart = curve.length > 1 && curves("Measured error of each number of evaluations", "evaluations", [["error", "accent"]], { log: true, points: true });
  if (chart) { // of one number of evaluations the best
    const best = new Map();
    for (const one of curve) if (one.error !== null && !(best.get(one.steps)?.error <= one.error)) best.set(one.steps, one);
    const sorted = [...best.values()].sort((a, b) => a.steps - b.steps);
    chart.set(sorted.map((one) => one.steps), [sorted.map((one) => one.error)]);
  }
  const element = h("div", { class: "stack" },
    h("form", { class: "panel row tools", onsubmit: draw }, field("Samples", n), field("Seed", seed), label && field("Class", label), where.map(([name, input]) => field(name, input)),
      guidance && field("Guidance", guidance), method && field("Method", method), steps && field("Evaluations", steps), h("button", { class: "primary" }, "Draw")),
    chart && h("details", null, h("summary", null, "How many evaluations does a good sample take?"), chart.element,
      h("p", { class: "muted" }, `Measured by undiffuse tune: the distance of samples to held-out rows that is due to the sampler. It chose ${detail.sampler.method} with ${detail.sampler.steps}.`)),
    status.element, download, out);
  return { element, leave: () => { status.end(); chart?.end?.(); } };
}

// The way of a sample, to move along: what the sampler has, and what the model takes it for.
function scrubber(path, shown) {
  const { frames } = path;
  const slider = h("input", { type: "range", min: "0", max: String(frames.length - 1), value: String(frames.length - 1), "aria-label": "From noise to the sample", oninput: () => at(Number(slider.value)) });
  const words = h("output", { class: "muted" });
  const faces = h("div", { class: "pair" });
  const points = plane(shown) && frames.map((frame) => cells(frame.x_t));
  const hats = points && frames.map((frame) => cells(frame.x_hat));
  function at(i) {
    const frame = frames[i];
    words.textContent = `noise ${frame.noise === null ? "only" : number(frame.noise, 2)}`;
    slider.setAttribute("aria-valuetext", `${words.textContent}, ${i + 1} of ${frames.length}`);
    if (points) swap(faces, h("figure", null, scatter("The path in the plane", hats, { path: points.slice(0, i + 1), marked: points[i], box: [...ends(points, hats, 0), ...ends(points, hats, 1)] }), h("figcaption", null, "its path")));
    else swap(faces, [["x_t", "noisy, x_t"], ["x_hat", "taken for, x̂"]].map(([key, text]) => h("figure", null, row(frame[key], shown.columns, text), h("figcaption", null, text))));
  }
  at(frames.length - 1);
  return [h("h3", null, "Its path from noise"), faces, h("div", { class: "row nowrap" }, slider, words), h("p", { class: "muted" }, `${path.evaluations} evaluations of the network.`)];
}

// Sentences of the library, without what one would type.
export const plainly = (text) => `This is ${text.replaceAll(/ \(--[^)]*\)/g, "")}.`;

const ends = (a, b, axis) => { const all = [...a, ...b].map((point) => point[axis]); return [Math.min(...all), Math.max(...all)]; };
