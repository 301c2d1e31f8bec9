"use strict";
// Elements, and heat maps of arrays.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Formulas come from Python as markup in which all text is escaped.
function markup(tag, attributes, html) {
  const made = element(tag, attributes);
  made.innerHTML = html;
  return made;
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const levels = new WeakMap(); // by canvas: signed bytes; -128 marks NaN and infinity
const NOT_FINITE = [214, 0, 214];

function colour(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

function paint(canvas) {
  const [low, zero, high] = ["--low", "--zero", "--high"].map(colour);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  levels.get(canvas).forEach((level, i) => {
    const end = level < 0 ? low : high;
    const share = Math.abs(level) / 127;
    for (let c = 0; c < 3; c++) {
      image.data[4 * i + c] = level === -128 ? NOT_FINITE[c] : zero[c] + share * (end[c] - zero[c]);
    }
    image.data[4 * i + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}

dark.addEventListener("change", () => document.querySelectorAll("canvas").forEach(paint));

function drawing(summary, name, small) {
  const [rows, columns] = summary.cells;
  const room = small ? [160, 72] : [230, 150];
  // The largest cells that fit, and not too far from square.
  const [width, height] = [room[0] / columns, room[1] / rows].map((size) => Math.floor(size));
  const side = (size, other) => Math.max(1, Math.min(18, size, 6 * Math.max(1, other)));
  const canvas = element("canvas", {
    width: columns,
    height: rows,
    role: "img",
    "aria-label": `heat map of ${name}, from ${summary.min} to ${summary.max}`,
  });
  canvas.style.width = `${Math.max(16, columns * side(width, height))}px`;
  canvas.style.height = `${Math.max(16, rows * side(height, width))}px`;
  levels.set(canvas, Int8Array.from(atob(summary.heat), (c) => (c.charCodeAt(0) << 24) >> 24));
  paint(canvas);
  return canvas;
}

function statistics(summary) {
  const line = element("p", { class: "stats" });
  for (const key of ["min", "mean", "max", "norm"]) {
    line.append(`${key} `, element("b", { "data-is": key }, summary[key]), " ");
  }
  const [heights, widths] = [0, 1].map((i) => summary.matrix[i] / summary.cells[i]);
  if (heights > 1 || widths > 1) {
    line.append(`· a cell is the mean of ${Math.ceil(heights)} × ${Math.ceil(widths)}`);
  }
  return line;
}

// A fraction with four digits; an integer, True or inf in Python's syntax.
function short(x) {
  return /^-?\d+$/.test(x) || !Number.isFinite(Number(x)) ? x : Number(x).toPrecision(4);
}

function numbers(summary) {
  const [rows, columns] = summary.matrix;
  const body = element("tbody");
  for (let i = 0; i < rows; i++) {
    const row = summary.numbers.slice(i * columns, (i + 1) * columns);
    const cells = row.map((x) => element("td", { title: x }, short(x)));
    body.append(element("tr", {}, ...cells));
  }
  return element(
    "details", { class: "numbers" }, element("summary", {}, "numbers"), element("table", {}, body),
  );
}

// A figure: an array's name, heat map and statistics and, if it is small, all its numbers.
function figure(title, note, summary, small = false) {
  const caption = element(
    "figcaption", {}, element("span", { class: "name" }, title), " ",
    element("small", {}, [summary.shape, note].filter(Boolean).join(" ")),
  );
  if (!summary.cells) return element("figure", {}, caption, element("p", {}, "has no elements"));
  const made = element("figure", {}, caption, drawing(summary, title, small), statistics(summary));
  if (summary.numbers && summary.numbers.length > 1) made.append(numbers(summary));
  return made;
}
