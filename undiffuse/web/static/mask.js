// A mask painted over a picture: by mouse, finger or keyboard.

import { h, say } from "./dom.js";

const INK = [224, 69, 123, 255], CLEAR = [0, 0, 0, 0];

// `wide` x `tall` entries, of which some may be hidden at the start; a picture may show several panes
// of as many side by side.
// `hidden`[y * wide + x] is true where the row is to be drawn anew.
export function painter(src, wide, tall, hidden, panes = 1) {
  let brush = Math.max(1, Math.round(Math.min(wide, tall) / 8)), erases = false, cursor = [wide >> 1, tall >> 1], last = null;
  const canvas = h("canvas", { width: wide * panes, height: tall, tabindex: "0", role: "application", class: "mask",
    "aria-label": "Mask. Arrow keys move, space paints, E erases, plus and minus change the brush." });
  const ink = canvas.getContext("2d");
  const ring = h("span", { class: "ring", hidden: true });

  const pixels = ink.createImageData(wide, tall);

  function draw() {
    hidden.forEach((on, i) => pixels.data.set(on ? INK : CLEAR, 4 * i));
    for (let pane = 0; pane < panes; pane++) ink.putImageData(pixels, pane * wide, 0);
    const share = hidden.filter(Boolean).length / hidden.length;
    told.textContent = `${Math.round(share * 100)} % is drawn anew`;
    point();
  }

  function point() {
    for (const [key, value] of [["left", (cursor[0] + 0.5) / (wide * panes)], ["top", (cursor[1] + 0.5) / tall]]) ring.style.setProperty(key, `${100 * value}%`);
    ring.style.setProperty("width", `${(100 * brush) / (wide * panes)}%`);
  }

  function dab([x, y]) {
    const radius = brush / 2;
    for (let j = Math.floor(y - radius); j <= y + radius; j++)
      for (let i = Math.floor(x - radius); i <= x + radius; i++)
        if (i >= 0 && j >= 0 && i < wide && j < tall && (brush === 1 ? i === x && j === y : (i - x) ** 2 + (j - y) ** 2 <= radius ** 2)) hidden[j * wide + i] = !erases;
  }

  function line(from, to) {
    const length = Math.max(1, Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]));
    for (let k = 0; k <= length; k++) dab([Math.round(from[0] + ((to[0] - from[0]) * k) / length), Math.round(from[1] + ((to[1] - from[1]) * k) / length)]);
    draw();
  }

  const where = (event) => {
    const box = canvas.getBoundingClientRect();
    return [Math.floor(((event.clientX - box.left) / box.width) * wide * panes) % wide, Math.floor(((event.clientY - box.top) / box.height) * tall)];
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); last = cursor = where(event); line(last, last); event.preventDefault(); canvas.focus(); });
  canvas.addEventListener("pointermove", (event) => { cursor = where(event); if (last) line(last, cursor); else point(); last &&= cursor; });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
  canvas.addEventListener("focus", () => { ring.hidden = false; });
  canvas.addEventListener("blur", () => { ring.hidden = true; });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (moves[event.key]) {
      const [dx, dy] = moves[event.key];
      cursor = [Math.min(wide - 1, Math.max(0, cursor[0] + dx)), Math.min(tall - 1, Math.max(0, cursor[1] + dy))];
    } else if (event.key === " ") dab(cursor);
    else if (event.key === "+" || event.key === "-") size(brush + (event.key === "+" ? 1 : -1));
    else if (event.key.toLowerCase() === "e") mode(!erases);
    else return;
    event.preventDefault();
    draw();
    say(`column ${cursor[0] + 1}, line ${cursor[1] + 1}, ${hidden[cursor[1] * wide + cursor[0]] ? "drawn anew" : "kept"}`);
  });

  const told = h("output", { class: "muted" });
  const slider = h("input", { type: "range", min: "1", max: String(Math.max(2, Math.round(Math.min(wide, tall) / 2))), value: String(brush), "aria-label": "Size of the brush", oninput: () => { size(Number(slider.value)); draw(); } });
  const tools = ["Paint", "Erase"].map((word, i) => h("button", { type: "button", class: "quiet small", onclick: () => mode(Boolean(i)) }, word));
  function mode(on) { erases = on; tools.forEach((one, i) => one.setAttribute("aria-pressed", String(Boolean(i) === on))); }
  function size(to) { brush = Math.min(Number(slider.max), Math.max(1, to)); slider.value = brush; }
  const preset = (word, test) => h("button", { type: "button", class: "quiet small", onclick: () => { hidden.forEach((_, i) => { hidden[i] = test(i % wide, Math.floor(i / wide), hidden[i]); }); draw(); } }, word);
  mode(false);
  const element = h("div", { class: "stack tight" },
    h("div", { class: "easel", style: { "aspect-ratio": `${wide * panes} / ${tall}` } }, h("img", { src, alt: "" }), canvas, ring),
    h("div", { class: "row" }, tools, h("label", { class: "row nowrap" }, h("span", { class: "muted" }, "brush"), slider)),
    h("div", { class: "row" }, preset("Lower half", (_, y) => y >= tall / 2), preset("Right half", (x) => x >= wide / 2),
      preset("Middle", (x, y) => Math.abs(x + 0.5 - wide / 2) < wide / 4 && Math.abs(y + 0.5 - tall / 2) < tall / 4), preset("Invert", (_x, _y, on) => !on), preset("Clear", () => false), told));
  draw();
  return { element };
}
