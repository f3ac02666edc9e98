// Samples of an exported run, drawn in the browser by onnxruntime-web on one thread.
//
// npm ci --ignore-scripts
// undiffuse export runs/digits --whole --steps 8 --out run
// python -m http.server --bind 127.0.0.1

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

ort.env.wasm.numThreads = 1;

/** The files that `undiffuse export --whole` wrote into a folder. */
export async function open(folder) {
  const response = await fetch(`${folder}/sampler.json`);
  if (!response.ok) throw new Error(`There is no ${folder}/sampler.json. Export a run: undiffuse export RUN --whole --out ${folder}`);
  const tree = await response.json();
  if (tree.file !== "sampler.onnx") throw new Error("This is the network alone. Export the run with --whole.");
  const session = await ort.InferenceSession.create(`${folder}/${tree.file}`);
  return { tree, session };
}

/** A function that returns numbers from [0, 1): mulberry32. */
export function uniforms(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal numbers, by Box and Muller's transform. */
export function normals(count, uniform) {
  return Float32Array.from({ length: count }, () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
}

/** What the sampler takes for n samples of a class (null: any class); one seed draws the same. */
export function inputs(tree, n, { seed = 0, label = null, guidance = 1 } = {}) {
  const uniform = uniforms(seed), size = tree.shape.reduce((a, b) => a * b, 1);
  const feeds = { noise: new ort.Tensor("float32", normals(n * size, uniform), [n, ...tree.shape]) };
  if ("label" in tree.conditions) {
    const one = () => BigInt(label ?? Math.floor(uniform() * tree.classes.length));
    feeds.label = new ort.Tensor("int64", BigInt64Array.from({ length: n }, one), [n]);
  }
  if ("vector" in tree.conditions) { // conditions that are not known
    const size = [n, tree.conditions.vector];
    feeds.vector = new ort.Tensor("float32", new Float32Array(size[0] * size[1]), size);
  }
  if (tree.guidance !== null) feeds.guidance = new ort.Tensor("float32", [guidance], []);
  return feeds;
}

/** Paint images (n, H, W), (n, H, W, C) or (n, C, H, W) of whole numbers as a grid, a pixel for each. */
export function paint(canvas, rows, decode) {
  const sides = [...decode.row_shape];
  const axis = sides.length === 3 ? decode.channel ?? 0 : null;
  const channels = axis === null ? 1 : sides.splice(axis, 1)[0];
  if (sides.length !== 2 || ![1, 3].includes(channels) || !decode.whole) {
    throw new Error("Its rows are no images of 1 or 3 channels; this page draws images.");
  }
  const [height, width] = sides, n = rows.dims[0], across = Math.ceil(Math.sqrt(n));
  const low = Math.min(...[decode.low].flat(9)), range = Math.max(...[decode.high].flat(9)) - low;
  canvas.width = across * width;
  canvas.height = Math.ceil(n / across) * height;
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < n * height * width; i++) {
    const sample = Math.floor(i / (height * width)), pixel = i % (height * width);
    const y = Math.floor(sample / across) * height + Math.floor(pixel / width);
    const x = (sample % across) * width + (pixel % width);
    for (let c = 0; c < 3; c++) {
      const channel = channels === 1 ? 0 : c;
      const place = axis === 0 ? channel * height * width + pixel : pixel * channels + channel;
      const value = rows.data[sample * channels * height * width + place];
      image.data[4 * (y * canvas.width + x) + c] = Math.round((255 * (Number(value) - low)) / range);
    }
    image.data[4 * (y * canvas.width + x) + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** Set up the page: the choices that the run has, and what the button does. */
async function main(folder) {
  const status = document.querySelector("[role=status]"), canvas = document.querySelector("canvas");
  const [choice, guidance, number, seed] = document.querySelectorAll("select, input");
  const fail = (problem) => { status.textContent = problem.message; };
  try {
    const { tree, session } = await open(folder);
    tree.classes.forEach((name, i) => choice.add(new Option(name, i)));
    choice.parentElement.hidden = !("label" in tree.conditions);
    guidance.parentElement.hidden = tree.guidance === null;
    guidance.value = tree.guidance ?? 1;
    status.textContent = `Ready: ${tree.method}, ${tree.evaluations} evaluations a sample.`;
    const draw = async () => {
      const n = number.valueAsNumber, label = choice.value === "" ? null : Number(choice.value);
      const feeds = inputs(tree, n, { seed: seed.valueAsNumber, label, guidance: guidance.valueAsNumber });
      const began = performance.now();
      const { rows } = await session.run(feeds);
      const ms = performance.now() - began;
      paint(canvas, rows, tree.decode);
      canvas.hidden = false;
      status.textContent = `Drew ${n} samples in ${(ms / 1e3).toFixed(2)} s, ${(ms / n).toFixed(1)} ms each.`;
      seed.value = seed.valueAsNumber + 1;
    };
    const form = document.querySelector("form"), button = document.querySelector("button");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      button.disabled = true;
      status.textContent = "Drawing.";
      setTimeout(() => draw().catch(fail).finally(() => (button.disabled = false)), 20); // shows the text first
    });
    button.disabled = false;
  } catch (problem) {
    fail(problem);
  }
}

await main(new URLSearchParams(location.search).get("run") ?? "run");
