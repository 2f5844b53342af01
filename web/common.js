"use strict";
// Every text is put in as text: names come from models' files.
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, to] of Object.entries(value)) node.style.setProperty(name, to);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  put(node, children);
  return node;
}

function put(node, children) {
  for (const child of children.flat(4)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "style") for (const [name, to] of Object.entries(value)) node.style.setProperty(name, to);
    else node.setAttribute(key, String(value));
  }
  for (const child of children.flat(4)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const list = (value) => (Array.isArray(value) ? value : []);

function short(number, digits) {
  if (!isNumber(number)) return "–";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 1e5 || size < 1e-4) return number.toExponential(2);
  return String(Number(number.toPrecision(digits || 4)));
}
const fixed = (number, digits) => (isNumber(number) ? number.toFixed(digits) : "–");
const percent = (share, digits) => (isNumber(share) ? `${(100 * share).toFixed(digits === undefined ? 1 : digits)} %` : "–");
function decibels(value) {
  if (!isNumber(value)) return "–";
  return value >= 999 ? "identical" : value <= -999 ? "no match" : `${value.toFixed(1)} dB`;
}
function bytes(number) {
  return isNumber(number) ? (number >= 1e5 ? `${(number / 1e6).toFixed(1)} MB` : `${(number / 1e3).toFixed(1)} kB`) : "–";
}
function many(number) {
  if (!isNumber(number)) return "–";
  const units = ["", " k", " M", " G", " T"];
  let unit = 0;
  while (number >= 1000 && unit + 1 < units.length) { number /= 1000; ++unit; }
  return unit === 0 ? String(Math.round(number)) : number.toFixed(number < 10 ? 2 : number < 100 ? 1 : 0) + units[unit];
}
const median = (form) => (form && form.milliseconds && isNumber(form.milliseconds.median) ? form.milliseconds.median : null);

function readData() {
  return JSON.parse(document.getElementById("data").textContent);
}

function table(head, rows, marked) {
  const numeric = head.map((title) => title.startsWith("#"));
  return el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Table"},
    el("table", {},
      el("thead", {}, el("tr", {}, head.map((title, i) => el("th", {scope: "col", class: numeric[i] ? "n" : null}, title.replace(/^#/, ""))))),
      el("tbody", {}, rows.map((row, r) => el("tr", {class: marked && marked(r) ? "best" : null},
        row.map((cell, i) => el("td", {class: numeric[i] ? "n" : "name"}, cell)))))));
}

// Round numbers between two, about `count` of them.
function ticks(low, high, count) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const rough = span / count, power = Math.pow(10, Math.floor(Math.log10(rough)));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

async function loadPixels(uri, width, height, isPhoto) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const w = width || image.naturalWidth, h = height || image.naturalHeight;
  if (isPhoto) return {image, width: w, height: h};
  const canvas = document.createElement("canvas");
  canvas.width = w; canvas.height = h;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, w, h);
  const rgba = context.getImageData(0, 0, w, h).data;
  const grey = new Uint8Array(w * h);
  for (let i = 0; i < grey.length; ++i) grey[i] = rgba[4 * i];
  return {grey, width: w, height: h};
}

const kTint = [38, 139, 210], kAdded = [230, 0, 126], kMissing = [255, 176, 0];

// `mask` over what is drawn already, between columns `from` and `to`; where it differs from `reference` in solid colours.
function tintMask(context, mask, reference, from, to, mark) {
  const {width, height} = mask;
  if (to <= from) return {added: 0, missing: 0};
  const pixels = context.getImageData(from, 0, to - from, height);
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask.grey[y * width + x] >= 128;
  for (let y = 0; y < height; ++y) {
    for (let x = from; x < to; ++x) {
      const i = y * width + x, out = 4 * (y * (to - from) + x - from);
      const set = mask.grey[i] >= 128, wanted = reference ? reference.grey[i] >= 128 : set;
      let colour = null, share = 0;
      if (mark && set !== wanted) { colour = set ? kAdded : kMissing; share = .92; }
      else if (set) {
        const edge = !at(x - 1, y) || !at(x + 1, y) || !at(x, y - 1) || !at(x, y + 1);
        colour = kTint; share = edge ? 1 : .45;
      }
      if (!colour) continue;
      for (let c = 0; c < 3; ++c) pixels.data[out + c] = pixels.data[out + c] * (1 - share) + colour[c] * share;
      pixels.data[out + 3] = 255;
    }
  }
  context.putImageData(pixels, from, 0);
}

function drawPrompt(context, prompt, scale) {
  if (!prompt) return;
  context.lineWidth = 2;
  const stroke = (draw) => {
    context.strokeStyle = "rgba(0,0,0,.65)"; context.lineWidth = 4; draw();
    context.strokeStyle = "#fff"; context.lineWidth = 2; draw();
  };
  if (Array.isArray(prompt.box)) {
    const [x0, y0, x1, y1] = prompt.box.map((v) => v * scale);
    stroke(() => context.strokeRect(x0, y0, x1 - x0, y1 - y0));
  }
  for (const point of list(prompt.points)) {
    context.beginPath();
    context.arc(point[0] * scale, point[1] * scale, 6, 0, 7);
    context.fillStyle = point[2] === 0 ? "#d33" : "#2a2";
    context.fill();
    stroke(() => context.stroke());
  }
}

function promptText(prompt) {
  if (!prompt) return "";
  if (Array.isArray(prompt.box)) return `box ${prompt.box.map((v) => short(v)).join(", ")}`;
  const points = list(prompt.points);
  return (points.length === 1 ? "point " : "points ") + points.map((p) => `${short(p[0])}, ${short(p[1])}${p[2] === 0 ? " (off)" : ""}`).join("; ");
}
