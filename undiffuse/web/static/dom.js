// Elements and words. Text becomes text nodes, never markup: names from data do nothing.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (name === "style") for (const [key, own] of Object.entries(value)) element.style.setProperty(key, own);
    else if (name in element && !(element instanceof SVGElement) && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  put(element, children);
  return element;
}

export const h = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
export const svg = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

// Append children: elements, text, numbers, lists of them; null and false are nothing.
export function put(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export const swap = (element, ...children) => put((element.replaceChildren(), element), ...children);

let names = 0;
export const fresh = (stem) => `${stem}-${++names}`;

// Say something to a screen reader.
export function say(text) {
  document.getElementById("say").textContent = text;
}

// --- words

export function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return value.toLocaleString("en");
  return Number(value.toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: digits });
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return "under 1 s";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 360000 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}

export function size(bytes) {
  const units = ["bytes", "KB", "MB", "GB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < 3; unit++) bytes /= 1000;
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
}

export function when(text) {
  const date = new Date(text);
  if (Number.isNaN(date.valueOf())) return "";
  const days = (Date.now() - date) / 86400000;
  const options = days < 1 ? { timeStyle: "short" } : { dateStyle: "medium" };
  return date.toLocaleString("en", options);
}

// --- pieces that many pages have

export const field = (label, control, hint) => {
  control.id ||= fresh("field");
  const note = hint && h("small", { id: `${control.id}-hint` }, hint);
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, note);
};

export const select = (pairs, chosen, properties) =>
  h("select", properties, pairs.map((pair) => {
    const [value, text] = Array.isArray(pair) ? pair : [pair, pair];
    return h("option", { value, selected: value === chosen }, text);
  }));

export const notice = (text, kind = "") => h("p", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : null }, text);

export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.filter(([, text]) => text !== "" && text != null).map(([name, text]) =>
    h("div", null, h("dt", null, name), h("dd", null, text))));

// A table of texts; the first column names its row. It scrolls by itself, also by keyboard.
export function table(caption, columns, lines, properties) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", properties, h("caption", { class: "unseen" }, caption),
      h("thead", null, h("tr", null, columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, lines.map((line) => line instanceof Node ? line : h("tr", null, line.map((cell) => h("td", null, cell)))))));
}

// Ask before what cannot be undone. Resolves to whether it was agreed to.
export function confirmed(title, text, word) {
  return new Promise((resolve) => {
    const label = fresh("title");
    const dialog = h("dialog", { "aria-labelledby": label },
      h("h2", { id: label }, title), h("p", null, text),
      h("div", { class: "row end" },
        h("button", { type: "button", class: "quiet", onclick: () => dialog.close("") }, "Keep it"),
        h("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, word)));
    dialog.addEventListener("close", () => { resolve(dialog.returnValue === "yes"); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}
