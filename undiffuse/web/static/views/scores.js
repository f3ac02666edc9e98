// Scores of uploaded rows: the most surprising first, and where the surprise sits.

import { heat, histogram, shares, waveform } from "../charts.js";
import { field, fresh, h, notice, number, say, swap, table } from "../dom.js";
import { api, result, run } from "../net.js";
import { files, looked, player, row, work } from "../pieces.js";
import { plainly } from "./samples.js";

const SHOWN = 200, BINS = 32;

export async function scores(detail) {
  if (!detail.likelihood) return { element: notice("This model has no likelihood, so rows cannot be scored by it. Models of other presets, such as edm, have one.") };
  const at = run(detail.name), status = work();
  const out = h("div", { class: "stack" });
  const alarm = h("input", { type: "number", min: "0.001", max: "0.5", step: "any", value: "0.05" });
  let sent = null;

  async function take(list) {
    sent = await status.send(list);
    if (sent) score();
  }

  async function score() {
    swap(out);
    const given = Number(alarm.value);
    const state = await status.start(`${at}/score`, { upload: sent.id, form: "json", ...(given ? { alarm: given } : {}) }, `Scoring ${sent.name}`);
    const found = state && await status.attempt(result(state));
    if (!found) return;
    const { log_likelihood: nats } = found.columns;
    const order = nats.map((value, i) => [value ?? -Infinity, i]).sort((a, b) => a[0] - b[0]).map(([, i]) => i);
    const first = order.slice(0, SHOWN);
    const held = await looked(status, detail.name, "held-out-scores", { scores: first.map((i) => nats[i]) }, "Comparing with held-out rows");
    swap(out, shown(found, held, first));
    say(`${found.columns.row.length} rows are scored`);
  }

  // The rows `first`, and of all rows the histogram.
  function shown(found, held, first) {
    const { columns, summary } = found, left = columns.row.length - first.length;
    const head = ["", "row", "log-likelihood, nats", held && "p-value", columns.alarm && "alarm", "note"].filter((one) => one !== undefined && one !== null && one !== false);
    const lines = first.map((i, place) => h("tr", { class: columns.alarm?.[i] ? "alarm" : null },
      h("td", null, h("button", { type: "button", class: "link", "aria-label": `Open row ${columns.row[i]}`, onclick: () => open(i, columns.row[i]) }, "open")), h("td", { class: "long" }, columns.row[i]),
      h("td", { class: "number" }, number(columns.log_likelihood[i], 5), columns.stderr?.[i] ? h("span", { class: "muted" }, ` ± ${number(columns.stderr[i], 2)}`) : ""),
      held && h("td", { class: "number" }, number(held.p_values[place], 2)), columns.alarm && h("td", null, columns.alarm[i] ? h("strong", { class: "bad" }, "alarm") : ""), h("td", null, columns.note?.[i] ?? "")));
    return [h("p", null, h("strong", null, `${number(summary.log_likelihood, 5)} nats`), ` on average over ${number(summary.finite)} of ${number(summary.rows)} rows`, summary.alarms !== null && summary.alarms !== undefined ? `; ${number(summary.alarms)} ${summary.alarms === 1 ? "alarm" : "alarms"} at a rate of ${alarm.value}.` : "."),
      summary.meaning && h("p", { class: "muted" }, plainly(summary.meaning)), held && spread(columns.log_likelihood, held.nats),
      h("h3", null, "The most surprising first"), table("scores", head, lines), left > 0 && h("p", { class: "muted" }, `${number(left)} more rows are less surprising.`)];
  }

  // These rows' scores (filled) against those of held-out rows (outlined), on common bins. Rows far
  // below nearly all held-out ones are counted in the first bin: one of them would leave no room for the rest.
  function spread(own, held) {
    const good = (list) => list.filter((value) => value !== null);
    const [a, b] = [good(own), good(held)];
    if (!a.length || !b.length) return null;
    const ends = (list) => list.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, -Infinity]);
    const [least, high] = ends([...a, ...b]), usual = [...b].sort((x, y) => x - y)[Math.floor(b.length / 20)], low = Math.max(least, usual - 2 * (high - usual || 1)), width = (high - low || 1) / BINS;
    const counts = (list) => { const bins = Array(BINS).fill(0); for (const value of list) bins[Math.max(0, Math.min(BINS - 1, Math.floor((value - low) / width)))] += 1 / list.length; return bins; };
    return h("figure", { class: "chart" }, h("figcaption", null, "Log-likelihoods: ", h("span", { class: "key second" }, "these rows"), " and ", h("span", { class: "key first" }, `${number(b.length)} held-out rows`)),
      histogram("Log-likelihoods of held-out rows and of these", counts(b), `${number(low)}${low > least ? " or less" : ""}`, number(high), { over: counts(a), tall: 24 }));
  }

  function open(i, name) {
    const title = fresh("title"), inner = work(), place = h("div", { class: "stack" });
    const dialog = h("dialog", { class: "wide", "aria-labelledby": title }, h("div", { class: "row between" }, h("h2", { id: title, class: "long" }, `Row ${name}`), h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close")), inner.element, place);
    dialog.addEventListener("close", () => { inner.end(); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
    (async () => {
      const found = await inner.attempt(api("POST", `${at}/looks/rows`, { upload: sent.id, rows: [i] }), "Reading the row");
      if (!found) return;
      const [item] = found.items;
      const face = row(item, found.columns, `Row ${name}`);
      const why = h("div", { class: "stack tight" });
      swap(place, h("div", { class: "two" }, h("div", { class: "stack" }, face, player(item, "Play")), why));
      const where = detail.diffusion && await looked(inner, detail.name, "surprise", { upload: sent.id, row: i }, "Looking where it surprises");
      if (!where) return;
      const words = h("p", { class: "muted" }, "How much worse it is denoised than held-out rows are, in nats, over twelve noise levels.");
      if (where.kind === "map") swap(why, h("h3", null, "Where it surprises"), h("div", { class: "over" }, row(item, found.columns, ""), h("div", { class: "panes" }, heat("Map of the surprise", where.values))), words);
      else if (where.kind === "curve") swap(why, h("h3", null, "When it surprises"), waveform("Surprise at each step", where.values), words);
      else swap(why, h("h3", null, "Which columns drive it"), shares("Columns by surprise", where.values, { most: 16, words: (nats) => number(nats, 3) }), words);
    })();
  }

  const again = h("form", { class: "row tools", onsubmit: (event) => { event.preventDefault(); if (sent) score(); } }, field("Rate of false alarms", alarm, "0: none"), h("button", { class: "quiet" }, "Score again"));
  const element = h("div", { class: "stack" }, h("p", { class: "muted" }, "How likely is each row under the model, and is it unlike rows that were held out? An alarm at rate 0.05 is raised by 5 % of ordinary rows, on average."),
    files("Drop rows to score: files of the same kind as the training data", "", take, { folders: true }), again, status.element, out);
  return { element, leave: () => { status.end(); } };
}
