// One run: its name, what it is, and its tabs.

import { h, notice, put } from "../dom.js";
import { get, run } from "../net.js";
import { complete } from "./complete.js";
import { report } from "./report.js";
import { pill } from "./runs.js";
import { samples } from "./samples.js";
import { scores } from "./scores.js";
import { training } from "./training.js";

const TABS = [["training", "Training", training], ["samples", "Samples", samples], ["complete", "Complete", complete], ["scores", "Scores", scores], ["report", "Report", report]];

export async function one_run(name, tab) {
  const detail = await get(run(name));
  const [, title, view] = TABS.find(([one]) => one === tab) ?? TABS[0];
  const state = h("span", null, pill(detail.state, detail.stopping));
  const here = `#/run/${encodeURIComponent(name)}`;
  const ready = detail.curves && detail.state !== "damaged";
  const shown = ready || view === training ? await view(detail, state) : { element: notice(`There is nothing to draw from yet: ${detail.problem || "the first checkpoint has not been written"}.`) };
  const element = h("div", null,
    h("p", { class: "crumbs" }, h("a", { href: "#/" }, "Runs")),
    h("div", { class: "row between head" }, h("h1", { class: "long" }, detail.name), state),
    h("p", { class: "muted" }, [detail.kind, detail.shape && `rows of ${detail.shape}`, detail.preset, detail.parameters && `${detail.parameters.toLocaleString("en")} parameters`].filter(Boolean).join(" · ")),
    h("nav", { class: "tabs", "aria-label": `Pages of ${detail.name}` }, TABS.map(([one, text, own]) =>
      h("a", { href: `${here}/${one}`, "aria-current": own === view ? "page" : null }, text))));
  if (detail.problem) put(element, notice(detail.problem, "bad"));
  put(element, shown.element);
  return { title: `${title} · ${detail.name}`, element, leave: shown.leave };
}
