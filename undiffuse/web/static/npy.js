// Arrays as .npy files, which rows with gaps are sent as: NaN is unknown.

export function npy(values, shape) {
  const about = `{'descr': '<f8', 'fortran_order': False, 'shape': (${shape.join(", ")}${shape.length === 1 ? "," : ""}), }`;
  const header = `${about.padEnd(Math.ceil((about.length + 11) / 64) * 64 - 11)}\n`;
  const bytes = new Uint8Array(10 + header.length + 8 * values.length);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
  bytes.set(new TextEncoder().encode(header), 10);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => view.setFloat64(10 + header.length + 8 * i, value ?? NaN, true));
  return new File([bytes], "rows.npy", { type: "application/octet-stream" });
}

// Call `visit(i, place)` for each value of a row: its number, and its places by the letters of axes.
export function places(shape, axes, visit) {
  const count = shape.reduce((product, side) => product * side, 1);
  for (let i = 0; i < count; i++) {
    const place = {};
    for (let axis = shape.length - 1, rest = i; axis >= 0; axis--) {
      place[axes[axis]] = rest % shape[axis];
      rest = Math.floor(rest / shape[axis]);
    }
    visit(i, place);
  }
}
