// All runs: a card each; sort, filter, delete, compare.

import { confirmed, duration, field, h, notice, number, say, select, swap, when } from "../dom.js";
import { api, get, run } from "../net.js";

const SORTS = [["modified", "newest first"], ["name", "name"], ["held_out", "held-out loss"], ["elapsed", "time trained"]];
const WORDS = { training: "training", waiting: "waiting", finished: "finished", stopped: "stopped", damaged: "damaged", failed: "failed" };
const asked = { text: "", state: "", sort: "modified" }; // kept while the page is open
const picked = new Set();

export const pill = (state, stopping) => h("span", { class: `pill ${state}` }, stopping ? "stopping" : WORDS[state] ?? state);

// What a training has behind it, as a share; null if that is not known.
export function share(card) {
  if (card.steps) return Math.min(1, card.step / card.steps);
  if (card.budget && card.elapsed !== null) return Math.min(1, card.elapsed / card.budget);
  return null;
}

export async function runs() {
  let cards = (await get("/runs")).runs;
  const list = h("div", { class: "cards" });
  const count = h("p", { class: "muted" });
  const trouble = h("div");
  const compare = h("a", { class: "button", "aria-disabled": "true" });
  for (const name of picked) if (!cards.some((card) => card.name === name)) picked.delete(name);

  function chosen() {
    const ready = picked.size >= 2;
    compare.textContent = picked.size ? `Compare ${picked.size} ${picked.size === 1 ? "run" : "runs"}` : "Compare";
    compare.setAttribute("aria-disabled", String(!ready));
    compare.title = ready ? "" : "Choose two or more finished runs of the same data";
    if (ready) compare.href = `#/compare/${[...picked].map(encodeURIComponent).join(",")}`;
    else compare.removeAttribute("href");
  }

  async function remove(card) {
    if (!(await confirmed(`Delete ${card.name}?`, "The run's folder with its model, samples and report is removed from the disk. This cannot be undone.", "Delete it"))) return;
    try {
      await api("DELETE", run(card.name));
      picked.delete(card.name);
      cards = cards.filter((one) => one !== card);
      say(`${card.name} is deleted`);
      draw();
    } catch (problem) {
      swap(trouble, notice(problem.message, "bad"));
    }
  }

  function draw() {
    const text = asked.text.toLowerCase();
    const shown = cards.filter((card) => (!asked.state || card.state === asked.state) && `${card.name} ${card.kind} ${card.preset} ${card.source ?? ""}`.toLowerCase().includes(text));
    const key = asked.sort;
    const last = (value, end) => value ?? end;
    shown.sort((a, b) => key === "name" ? a.name.localeCompare(b.name) : key === "held_out" ? last(a.held_out, Infinity) - last(b.held_out, Infinity)
      : key === "elapsed" ? last(b.elapsed, -1) - last(a.elapsed, -1) : String(b.modified).localeCompare(String(a.modified)));
    const parts = (card) => [...(card?.querySelectorAll("a, button, input") ?? [])];
    const active = document.activeElement?.closest?.(".card"), place = parts(active).indexOf(document.activeElement);
    swap(list, shown.map((card) => face(card)));
    if (active) parts(list.querySelector(`[data-name="${CSS.escape(active.dataset.name)}"]`))[place]?.focus({ preventScroll: true });
    count.textContent = shown.length === cards.length ? `${cards.length} ${cards.length === 1 ? "run" : "runs"}` : `${shown.length} of ${cards.length} runs`;
    if (!shown.length) put_empty();
    chosen();
  }

  function put_empty() {
    swap(list, cards.length
      ? h("p", { class: "empty" }, "No run is like that. ", h("button", { type: "button", class: "link", onclick: () => { asked.text = asked.state = ""; search.value = state.value = ""; draw(); } }, "Show all"))
      : h("div", { class: "empty" }, h("h2", null, "No runs yet"), h("p", null, "Train a model on your own images, table, recordings or arrays, and it appears here."),
        h("a", { class: "button primary", href: "#/new" }, "Train the first one")));
  }

  function face(card) {
    const done = share(card);
    const busy = card.state === "training" || card.state === "waiting";
    const box = h("input", { type: "checkbox", checked: picked.has(card.name), disabled: card.state !== "finished" && card.state !== "stopped", "aria-label": `Compare ${card.name}`,
      onchange: (event) => { if (event.target.checked) picked.add(card.name); else picked.delete(card.name); chosen(); } });
    return h("article", { class: "card", "data-name": card.name },
      h("a", { class: "look", href: `#${run(card.name).replace("/runs", "/run")}`, tabindex: "-1", "aria-hidden": "true" },
        card.preview ? h("img", { src: card.preview, alt: "", loading: "lazy" }) : h("span", { class: "blank" }, busy ? "no samples yet" : "no picture")),
      h("div", { class: "body" },
        h("div", { class: "row between" }, h("h2", null, h("a", { href: `#${run(card.name).replace("/runs", "/run")}`, title: card.name }, card.name)), pill(card.state, card.stopping)),
        h("p", { class: "muted" }, [card.kind, card.preset, card.source].filter(Boolean).join(" · ")),
        busy && done !== null && h("progress", { max: 1, value: done, "aria-label": `${card.name} is trained to ${Math.round(done * 100)} %` }),
        card.problem ? h("p", { class: "bad" }, card.problem) : h("dl", { class: "small" },
          h("div", null, h("dt", null, "held-out loss"), h("dd", null, number(card.held_out))),
          h("div", null, h("dt", null, "steps"), h("dd", null, number(card.step))),
          h("div", null, h("dt", null, busy && card.left !== null ? "left" : "time"), h("dd", null, duration(busy && card.left !== null ? card.left : card.elapsed)))),
        h("div", { class: "row between foot" }, h("label", { class: "check" }, box, "compare"), h("span", { class: "muted" }, when(card.modified)),
          h("button", { type: "button", class: "link danger", disabled: busy, "aria-label": `Delete ${card.name}`, onclick: () => remove(card) }, "Delete"))));
  }

  const search = h("input", { type: "search", value: asked.text, placeholder: "name or data", oninput: () => { asked.text = search.value; draw(); } });
  const state = select([["", "any state"], ...Object.entries(WORDS)], asked.state, { onchange: () => { asked.state = state.value; draw(); } });
  const sort = select(SORTS, asked.sort, { onchange: () => { asked.sort = sort.value; draw(); } });
  const element = h("div", null,
    h("div", { class: "row between head" }, h("h1", null, "Runs"), h("a", { class: "button primary", href: "#/new" }, "New run")),
    h("div", { class: "row tools" }, field("Filter", search), field("State", state), field("Sort by", sort), compare, count), trouble, list);
  draw();

  // Cards move on by themselves, those of trainings more often; nothing is asked for while nobody looks.
  let quiet = 0;
  const timer = setInterval(async () => {
    const busy = cards.some((card) => card.state === "training" || card.state === "waiting");
    if (document.hidden || document.querySelector("dialog[open]") || (!busy && ++quiet % 5)) return;
    try {
      const found = (await get("/runs")).runs, same = JSON.stringify(found) === JSON.stringify(cards);
      cards = found;
      if (!same) draw();
    } catch { /* the next time */ }
  }, 3000);
  return { title: "Runs", element, leave: () => clearInterval(timer) };
}
