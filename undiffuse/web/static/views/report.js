// Reports and comparisons: pages of their own, shown in a sandbox, and made on demand.

import { field, h, say, swap } from "../dom.js";
import { run } from "../net.js";
import { work } from "../pieces.js";

// A page in which no script runs, whoever wrote it.
const framed = (src, title) => h("div", { class: "stack tight" }, h("iframe", { class: "report", sandbox: "", src, title, referrerpolicy: "no-referrer" }),
  h("p", null, h("a", { href: src, target: "_blank", rel: "noopener noreferrer" }, "Open it by itself"), h("span", { class: "muted" }, ", to print or save it.")));

export async function report(detail) {
  const status = work(), place = h("div");
  const src = `/runs/${encodeURIComponent(detail.name)}/report`;
  const n = h("input", { type: "number", min: "16", max: "50000", value: detail.report ? "1000" : "500" });
  async function make(event) {
    event.preventDefault();
    const state = await status.start(`${run(detail.name)}/evaluate`, { n: Number(n.value) }, "Evaluating");
    if (!state) return;
    swap(place, framed(`${src}?${Date.now()}`, `Report of ${detail.name}`));
    say("The report is made");
  }
  swap(place, detail.report ? framed(src, `Report of ${detail.name}`) : h("div", { class: "empty" }, h("h2", null, "No report yet"), h("p", null, "A report says how good the model is: a verdict, quality, coverage, likelihood and speed, each with its interval, and whether rows of the data were copied.")));
  const element = h("div", { class: "stack" }, h("form", { class: "row tools", onsubmit: make }, field("Samples", n, "more make figures more exact"), h("button", { class: detail.report ? "quiet" : "primary" }, detail.report ? "Make it anew" : "Make the report")), status.element, place);
  return { element, leave: status.end };
}

export async function comparison(names) {
  const status = work(), place = h("div");
  const n = h("input", { type: "number", min: "16", max: "50000", value: "500" });
  async function make(event) {
    event.preventDefault();
    const state = await status.start("/compare", { runs: names, n: Number(n.value) }, `Comparing ${names.length} runs`);
    if (!state) return;
    swap(place, framed(state.page ?? `/comparisons/${state.id}`, "Comparison"));
    say("The comparison is made");
  }
  const element = h("div", { class: "stack" }, h("p", { class: "crumbs" }, h("a", { href: "#/" }, "Runs")), h("h1", null, "Comparison"), h("ul", { class: "plain row" }, names.map((name) => h("li", null, h("a", { href: `#/run/${encodeURIComponent(name)}/training` }, name)))),
    h("form", { class: "row tools", onsubmit: make }, field("Samples of each", n, "more make figures more exact"), h("button", { class: "primary" }, "Compare")), h("p", { class: "muted" }, "All are measured against the same held-out rows; they have to be trained on the same data."), status.element, place);
  return { title: "Comparison", element, leave: status.end };
}
