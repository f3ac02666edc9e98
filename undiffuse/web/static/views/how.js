// How it works: a density in the plane whose denoiser is exact. All numbers come from the library
// (web/toy.py); here they are drawn, and interpolated between its points.

import { colour } from "../charts.js";
import { field, h, number, select } from "../dom.js";
import { get } from "../net.js";

const CLOUDS = { eight: "eight clouds", moons: "two moons", rings: "three rings" };
const SCHEDULES = { linear_vp: "variance preserving", cosine_vp: "cosine", linear: "straight (flow matching)" };
const SOLVERS = { ddim: "DDIM", euler: "Euler", heun: "Heun", dpmpp: "DPM-Solver++", deis: "DEIS", ancestral: "ancestral (with noise)", euler_maruyama: "Euler-Maruyama (with noise)" };
const SHOWS = [["x_t", "noisy points, x_t", true], ["x_hat", "where the denoiser takes them, x̂", false], ["score", "score field", true], ["paths", "paths of the solver", true]];
const SIDE = 560;

export async function how() {
  let toy = await get("/toy.json");
  const edge = toy.axis.at(-1);
  const canvas = h("canvas", { width: SIDE * 2, height: SIDE * 2, class: "toy", tabindex: "0", role: "application", "aria-label": "The plane. Arrow keys move a point; its denoised value and score are said below." });
  const ink = canvas.getContext("2d");
  const slider = h("input", { type: "range", min: "0", max: "1000", value: "250", "aria-label": "Time t, from data to noise", oninput: () => draw() });
  const words = h("output", { class: "big" });
  const under = h("p", { class: "muted", "aria-live": "polite" }, "Move over the plane: one point, and what the denoiser makes of it.");
  const cloud = select(Object.entries(CLOUDS), "eight", { onchange: () => fetch_toy() });
  const schedule = select(Object.entries(SCHEDULES), "linear_vp", { onchange: () => fetch_toy() });
  const solver = select(Object.entries(SOLVERS), "heun", { onchange: () => draw() });
  const steps = select(Object.keys(toy.paths.heun).map((one) => [one, `${one} steps`]), "10", { onchange: () => draw() });
  const shows = SHOWS.map(([name, text, on]) => [name, h("input", { type: "checkbox", checked: on, onchange: () => draw() }), text]);
  const show = (name) => shows.find(([one]) => one === name)[1].checked;
  const equations = h("div", { class: "equations" }, document.getElementById("equations").content.cloneNode(true));
  const value = (name) => equations.querySelector(`[data-value="${name}"]`);
  let point = null, timer = null;

  async function fetch_toy() {
    const asked = `/toy.json?cloud=${cloud.value}&schedule=${schedule.value}`;
    try {
      const found = await get(asked);
      if (asked !== `/toy.json?cloud=${cloud.value}&schedule=${schedule.value}`) return; // another was chosen meanwhile
      toy = found;
      draw();
    } catch (problem) {
      under.textContent = problem.message;
    }
  }

  // --- numbers at any time and place: linear between those of the library

  const time = () => toy.times[0] + (Number(slider.value) / 1000) * (1 - toy.times[0]);
  function between(t) {
    let i = toy.times.findIndex((one) => one >= t);
    i = Math.max(1, i === -1 ? toy.times.length - 1 : i);
    return [i - 1, i, (t - toy.times[i - 1]) / (toy.times[i] - toy.times[i - 1])];
  }
  const mix = (a, b, share) => a + (b - a) * share;
  const at = (list, [i, j, share]) => mix(list[i], list[j], share);

  function hat(place, [x, y]) { // x_hat at a point, bilinear on the grid
    const n = toy.axis.length, cell = (v) => Math.min(n - 1.001, Math.max(0, ((v + edge) / (2 * edge)) * (n - 1)));
    const [u, v] = [cell(x), cell(y)], [i, j] = [Math.floor(u), Math.floor(v)];
    const one = (time, k) => mix(mix(toy.x_hat[time][j][i][k], toy.x_hat[time][j][i + 1][k], u - i), mix(toy.x_hat[time][j + 1][i][k], toy.x_hat[time][j + 1][i + 1][k], u - i), v - j);
    return [0, 1].map((k) => mix(one(place[0], k), one(place[1], k), place[2]));
  }

  // --- the picture

  const px = (x) => ((x + edge) / (2 * edge)) * canvas.width;
  const py = (y) => ((edge - y) / (2 * edge)) * canvas.height;

  function density(place) {
    const n = toy.axis.length, image = new ImageData(n, n), tint = rgb(colour("accent"));
    const log_p = (j, i) => mix(toy.log_p[place[0]][j][i], toy.log_p[place[1]][j][i], place[2]);
    let most = -Infinity;
    for (let j = 0; j < n; j++) for (let i = 0; i < n; i++) most = Math.max(most, log_p(j, i));
    for (let j = 0; j < n; j++) for (let i = 0; i < n; i++) image.data.set([...tint, 110 * Math.exp((log_p(j, i) - most) * 0.7)], ((n - 1 - j) * n + i) * 4);
    const small = h("canvas", { width: n, height: n });
    small.getContext("2d").putImageData(image, 0, 0);
    const half = canvas.width / (n - 1) / 2;
    ink.imageSmoothingEnabled = true;
    ink.drawImage(small, -half, -half, canvas.width + 2 * half, canvas.height + 2 * half);
  }

  function arrow([x0, y0], [x1, y1], width) {
    const angle = Math.atan2(y1 - y0, x1 - x0), head = 4 + 2.5 * width;
    ink.beginPath();
    ink.moveTo(x0, y0);
    ink.lineTo(x1, y1);
    for (const turn of [2.6, -2.6]) { ink.moveTo(x1, y1); ink.lineTo(x1 + head * Math.cos(angle + turn), y1 + head * Math.sin(angle + turn)); }
    ink.lineWidth = width;
    ink.stroke();
  }

  function dots(points, tint, radius) {
    ink.fillStyle = tint;
    for (const [x, y] of points) { ink.beginPath(); ink.arc(px(x), py(y), radius, 0, 7); ink.fill(); }
  }

  function draw() {
    const t = time(), place = between(t), alpha = at(toy.alpha, place), sigma = at(toy.sigma, place);
    ink.clearRect(0, 0, canvas.width, canvas.height);
    density(place);
    const noisy = toy.x.map((x, i) => [0, 1].map((k) => alpha * x[k] + sigma * toy.z[i][k]));
    if (show("score")) {
      ink.strokeStyle = colour("muted");
      for (let j = 1; j < toy.axis.length; j += 2) for (let i = 1; i < toy.axis.length; i += 2) {
        const x = [toy.axis[i], toy.axis[j]], to = hat(place, x);
        const score = [0, 1].map((k) => (alpha * to[k] - x[k]) / sigma ** 2), length = Math.hypot(...score);
        const reach = (0.16 * length) / (length + 1 / Math.max(sigma, 0.15)); // long ones are all alike
        if (length > 1e-6) arrow([px(x[0]), py(x[1])], [0, 1].map((k) => (k ? py : px)(x[k] + (score[k] / length) * reach)), 1.5);
      }
    }
    if (show("x_hat")) {
      const hats = toy.hats[place[0]].map((one, i) => [0, 1].map((k) => mix(one[k], toy.hats[place[1]][i][k], place[2])));
      ink.strokeStyle = colour("faint");
      ink.lineWidth = 1;
      noisy.forEach(([x, y], i) => { ink.beginPath(); ink.moveTo(px(x), py(y)); ink.lineTo(px(hats[i][0]), py(hats[i][1])); ink.stroke(); });
      dots(hats, colour("good"), 5);
    }
    if (show("x_t")) dots(noisy, colour("point"), 4.5);
    if (show("paths")) paths(t);
    if (point) probe(place, alpha, sigma);
    words.textContent = `t = ${t.toFixed(2)}`;
    slider.setAttribute("aria-valuetext", `t ${t.toFixed(2)}, ${Math.round(alpha * 100)} % data, ${Math.round(sigma * 100)} % noise`);
    value("alpha").textContent = `α = ${alpha.toFixed(2)}`;
    value("sigma").textContent = `σ = ${sigma.toFixed(2)}`;
    value("solver").textContent = `${SOLVERS[solver.value]}, ${steps.value} steps: ${solver.value === "heun" ? 2 * Number(steps.value) - 1 : steps.value} evaluations of the denoiser.`;
  }

  // The way of each noise as far as time t: steps that are behind are strong, those to come faint.
  function paths(t) {
    const { times, at: ways } = toy.paths[solver.value][steps.value];
    ways.forEach((way, k) => {
      const tint = colour(`line${k % 6}`);
      for (let i = 0; i + 1 < way.length; i++) {
        ink.globalAlpha = times[i + 1] >= t - 1e-9 ? 1 : 0.2;
        ink.strokeStyle = tint;
        ink.lineWidth = 3;
        ink.beginPath();
        ink.moveTo(px(way[i][0]), py(way[i][1]));
        ink.lineTo(px(way[i + 1][0]), py(way[i + 1][1]));
        ink.stroke();
        dots([way[i]], tint, 4);
      }
      ink.globalAlpha = 1;
      const passed = times.filter((one) => one >= t - 1e-9).length;
      dots([way[Math.max(0, passed - 1)]], tint, 9);
    });
  }

  function probe(place, alpha, sigma) {
    const to = hat(place, point), score = [0, 1].map((k) => (alpha * to[k] - point[k]) / sigma ** 2);
    ink.strokeStyle = colour("text");
    arrow([px(point[0]), py(point[1])], [px(to[0]), py(to[1])], 3);
    dots([point], colour("text"), 8);
    dots([to], colour("good"), 8);
    const pair = (list) => `(${list.map((one) => number(one, 3)).join(", ")})`;
    under.textContent = `x_t = ${pair(point)} is taken for x̂ = ${pair(to)}; the score there is ${pair(score)}.`;
  }

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    point = [((event.clientX - box.left) / box.width) * 2 * edge - edge, edge - ((event.clientY - box.top) / box.height) * 2 * edge];
    draw();
  });
  canvas.addEventListener("pointerleave", () => { if (document.activeElement !== canvas) { point = null; draw(); } });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
    if (!move) return;
    event.preventDefault();
    point = (point ?? [0, 0]).map((one, k) => Math.min(edge, Math.max(-edge, one + move[k])));
    draw();
  });

  const play = h("button", { type: "button", class: "quiet", onclick: () => (timer ? stop() : start()) }, "Play");
  function stop() { clearInterval(timer); timer = null; play.textContent = "Play"; }
  function start() {
    if (Number(slider.value) === 0) slider.value = 1000;
    play.textContent = "Pause";
    timer = setInterval(() => { slider.value = Math.max(0, Number(slider.value) - 8); draw(); if (Number(slider.value) === 0) stop(); }, 40);
  }

  document.addEventListener("colours", draw);
  const element = h("div", { class: "stack" }, h("h1", null, "How it works"),
    h("p", { class: "lead" }, "A diffusion model learns to take noise away. Here are data in the plane for which the best denoiser is known exactly: move the time, and see what training a network is to find."),
    h("div", { class: "two how" },
      h("div", { class: "stack" }, canvas, h("div", { class: "row nowrap" }, play, h("span", { class: "muted" }, "data"), slider, h("span", { class: "muted" }, "noise"), words), under,
        h("div", { class: "row tools" }, field("Data", cloud), field("Schedule", schedule), field("Solver", solver), field("Steps", steps)),
        h("fieldset", null, h("legend", null, "Shown"), shows.map(([, box, text]) => h("label", { class: "check" }, box, text)))),
      equations));
  draw();
  return { title: "How it works", element, leave: () => { stop(); document.removeEventListener("colours", draw); } };
}

// A colour of the style sheet (#rrggbb) as three numbers.
const rgb = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
