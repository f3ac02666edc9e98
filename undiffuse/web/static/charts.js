// Pictures of numbers: live curves (uPlot), bars, waveforms, points.

import uPlot from "./vendor/uPlot.esm.js";
import { h, number, svg } from "./dom.js";

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Curves over a common axis that can be given more points. `series`: [[name, colour], ...].
// `set(x, ys)` shows others. A table of the last values says the same to who cannot see it.
export function curves(label, xlabel, series, { log = false, points = false } = {}) {
  const words = h("p", { class: "unseen" });
  const place = h("div", { class: "plot" });
  const nothing = h("p", { class: "empty" }, "Nothing has been measured yet.");
  const element = h("figure", { class: "chart", "aria-label": label, role: "group" }, h("figcaption", null, label), nothing, place, words);
  let plot = null, data = [[], ...series.map(() => [])];

  function build() {
    plot?.destroy();
    const [text, line] = [colour("muted"), colour("line")];
    const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui" };
    plot = new uPlot({
      width: Math.max(220, place.clientWidth || 400), height: 220, padding: [8, 16, 0, 0],
      cursor: { y: false },
      legend: { live: true },
      scales: { x: { time: false }, y: log ? { distr: 3 } : {} },
      axes: [{ ...axis, label: xlabel, labelSize: 20, labelFont: "12px system-ui", values: (_, ticks) => ticks.map((tick) => number(tick)) },
        { ...axis, size: 58, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick, 3))) }],
      series: [{ label: xlabel, value: (_, value) => number(value) },
        ...series.map(([name, tint], i) => ({ label: name, stroke: colour(tint), width: i ? 2 : 1.25, spanGaps: true,
          points: { show: points || i > 0, size: 5 }, value: (_, value) => number(value) }))],
    }, data, place);
  }
  const rebuild = () => place.isConnected && build();
  const watch = new ResizeObserver(() => {
    if (!plot && place.clientWidth) build();
    else if (plot && place.clientWidth && Math.abs(plot.width - place.clientWidth) > 1) plot.setSize({ width: Math.max(220, place.clientWidth), height: 220 });
  });
  watch.observe(place);
  document.addEventListener("colours", rebuild);
  return {
    element,
    set(x, ys) {
      data = [x, ...ys];
      nothing.hidden = x.length > 0;
      place.hidden = !x.length;
      plot?.setData(data);
      const last = series.map(([name], i) => [name, ys[i].findLast((value) => value != null)]).filter(([, value]) => value != null);
      words.textContent = last.map(([name, value]) => `${name}: ${number(value)}`).join(", ");
    },
    end() { watch.disconnect(); document.removeEventListener("colours", rebuild); plot?.destroy(); },
  };
}

// Join curves with steps of their own to one axis.
export function joined(...parts) {
  const x = [...new Set(parts.flatMap((part) => part.map(([step]) => step)))].sort((a, b) => a - b);
  const place = new Map(x.map((step, i) => [step, i]));
  return [x, parts.map((part) => {
    const y = Array(x.length).fill(null);
    for (const [step, value] of part) y[place.get(step)] = value;
    return y;
  })];
}

// Vertical bars of counts between two ends. `mark` is where a line stands, as a share of the width.
export function histogram(label, counts, low, high, { over = null, mark = null, tall = 64 } = {}) {
  const most = Math.max(1e-12, ...counts, ...(over ?? []));
  const bar = (tint) => (count, i, all) => count > 0 && svg("rect", { class: tint, x: (i / all.length) * 100, width: Math.max(0.2, 100 / all.length - 0.4),
    y: tall - (count / most) * tall, height: (count / most) * tall });
  return h("figure", { class: "bars" },
    svg("svg", { viewBox: `0 0 100 ${tall}`, preserveAspectRatio: "none", role: "img", "aria-label": `${label}: from ${low} to ${high}` },
      counts.map(bar("first")), over?.map(bar("second")),
      mark !== null && svg("line", { class: "mark", x1: mark * 100, x2: mark * 100, y1: 0, y2: tall })),
    h("figcaption", null, h("span", null, low), h("span", null, high)));
}

// Horizontal bars with words: [[text, share], ...].
export function shares(label, pairs, { most = 8, words = (share) => `${Math.round(share * 100)} %` } = {}) {
  const greatest = Math.max(1e-12, ...pairs.map(([, share]) => Math.abs(share)));
  const left = pairs.length - most;
  return h("div", { class: "shares", role: "list", "aria-label": label }, pairs.slice(0, most).map(([text, share]) =>
    h("div", { role: "listitem" }, h("span", { class: "name", title: text }, text === "" ? "(empty)" : text),
      h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: share < 0 ? "less" : "", style: { width: `${(Math.abs(share) / greatest) * 100}%` } })),
      h("span", { class: "value" }, words(share)))),
    left > 0 && h("div", { role: "listitem", class: "muted" }, `and ${left} more`));
}

// Channels of a sequence as lines, all on one scale. `shade` is a range of places, as shares.
export function waveform(label, channels, { tall = 80, shade = null, zero = false } = {}) {
  const values = channels.flat().filter((value) => value !== null);
  let low = Math.min(...values), high = Math.max(...values);
  if (zero) { high = Math.max(Math.abs(low), Math.abs(high)); low = -high; }
  const span = high - low || 1;
  const path = (channel) => {
    let text = "", pen = false;
    channel.forEach((value, i) => {
      if (value === null) { pen = false; return; }
      text += `${pen ? "L" : "M"}${((i / Math.max(1, channel.length - 1)) * 100).toFixed(2)} ${(tall - 2 - ((value - low) / span) * (tall - 4)).toFixed(2)}`;
      pen = true;
    });
    return text;
  };
  return svg("svg", { class: "wave", viewBox: `0 0 100 ${tall}`, preserveAspectRatio: "none", ...(label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" }) },
    shade && svg("rect", { class: "shade", x: shade[0] * 100, width: Math.max(0, shade[1] - shade[0]) * 100, y: 0, height: tall }),
    channels.map((channel, i) => svg("path", { class: `line${i % 6}`, d: path(channel) })));
}

// Points of the plane (pairs of numbers), with a path over them. `box`: [low x, high x, low y, high y].
export function scatter(label, points, { path = null, box = null, marked = null } = {}) {
  const all = [...points, ...(path ?? [])].filter((point) => point.every(Number.isFinite));
  const [x, y] = [all.map((point) => point[0]), all.map((point) => point[1])];
  const [x0, x1, y0, y1] = box ?? [Math.min(...x), Math.max(...x), Math.min(...y), Math.max(...y)];
  const span = Math.max(x1 - x0, y1 - y0) * 1.1 || 1;
  const at = ([px, py]) => [50 + ((px - (x0 + x1) / 2) / span) * 100, 50 - ((py - (y0 + y1) / 2) / span) * 100];
  const dot = (kind, r) => (point) => { const [cx, cy] = at(point); return svg("circle", { class: kind, cx, cy, r }); };
  return svg("svg", { class: "scatter", viewBox: "0 0 100 100", role: "img", "aria-label": label },
    points.map(dot("dot", 0.9)), path && svg("polyline", { class: "path", points: path.map((point) => at(point).join(",")).join(" ") }), marked && [marked].map(dot("here", 2)));
}

// Numbers (lists of H rows) as a picture, from transparent at 0 to strong at the greatest.
export function heat(label, values) {
  const [tall, wide] = [values.length, values[0].length];
  const canvas = h("canvas", { width: wide, height: tall, class: "heat", role: "img", "aria-label": label });
  const pixels = new ImageData(wide, tall);
  const sorted = values.flat().filter((value) => value !== null).sort((a, b) => a - b);
  const most = Math.max(1e-9, sorted[Math.floor((sorted.length - 1) * 0.995)]);
  values.flat().forEach((value, i) => {
    const share = Math.min(1, Math.max(0, (value ?? 0) / most));
    pixels.data.set([230, 60 + 100 * (1 - share), 20, 255 * share ** 0.7], i * 4);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}
