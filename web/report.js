(() => {
const report = readData();
const main = document.getElementById("main");
const run = report.run || {};
const kPrecisions = ["int8", "bf16", "fp16", "fp32"];

// ---- Pictures

function pictureCard(subject, picture, number) {
  const masks = list(picture.masks);
  const forms = masks.map((mask) => mask.form);
  const scale = Math.min(1, 512 / Math.max(picture.width, picture.height, 1));
  let left = 0, right = forms.length - 1, split = 50, mark = true, loaded = null, photo = null;
  const canvas = el("canvas", {role: "img"});
  const stage = el("div", {class: "stage"}, canvas);
  const slider = el("input", {type: "range", min: 0, max: 100, value: 50, step: 1, class: "screen",
    "aria-label": `Picture ${number}, ${picture.name}: where the left form ends and the right one begins`});
  const sides = el("div", {class: "sides"});
  const card = el("figure", {class: "picture", style: {margin: "0"}});
  const choose = (which, set) => el("select", {"aria-label": `${which} side of picture ${number}`,
    onchange: (event) => { set(Number(event.target.value)); draw(); }},
    forms.map((form, i) => el("option", {value: i, selected: i === (which === "Left" ? left : right)}, form)));

  function describe(i) {
    const mask = masks[i];
    const parts = [];
    if (isNumber(mask.iou) && i > 0) parts.push(`IoU ${fixed(mask.iou, 4)}`);
    if (isNumber(mask.different) && i > 0) parts.push(`${percent(mask.different, 2)} of pixels differ`);
    return parts.join(", ");
  }

  function draw() {
    if (!loaded) return;
    const context = canvas.getContext("2d", {willReadFrequently: true});
    const {width, height} = loaded[0];
    const at = Math.round(width * split / 100);
    if (photo) context.drawImage(photo, 0, 0, width, height);
    else { context.fillStyle = "#202428"; context.fillRect(0, 0, width, height); }
    if (picture.kind === "map") {
      const pixels = context.getImageData(0, 0, width, height);
      for (let y = 0; y < height; ++y) for (let x = 0; x < width; ++x) {
        const i = y * width + x, value = loaded[x < at ? left : right].grey[i];
        const off = Math.abs(value - loaded[0].grey[i]);
        const marked = mark && off > 25;
        pixels.data.set(marked ? [...(value > loaded[0].grey[i] ? kAdded : kMissing), 255] : [value, value, value, 255], 4 * i);
      }
      context.putImageData(pixels, 0, 0);
    } else {
      tintMask(context, loaded[left], loaded[0], 0, at, mark);
      tintMask(context, loaded[right], loaded[0], at, width, mark);
      drawPrompt(context, picture.prompt, scale);
    }
    context.fillStyle = "#fff"; context.fillRect(at - 1, 0, 2, height);
    canvas.setAttribute("aria-label", `${picture.name}, ${promptText(picture.prompt) || "map"}: ` +
      masks.map((mask, i) => i === 0 ? "" : `${mask.form} against FP32: ${describe(i)}`).filter(Boolean).join("; "));
    sides.replaceChildren();
    put(sides, [el("span", {}, "◀ ", el("b", {}, forms[left]), " ", describe(left)), el("span", {style: {"text-align": "right"}}, el("b", {}, forms[right]), " ", describe(right), " ▶")]);
  }

  slider.addEventListener("input", () => { split = Number(slider.value); draw(); });
  let dragging = false;
  const follow = (event) => {
    const box = canvas.getBoundingClientRect();
    split = Math.min(100, Math.max(0, 100 * (event.clientX - box.left) / Math.max(box.width, 1)));
    slider.value = String(Math.round(split));
    draw();
  };
  stage.addEventListener("pointerdown", (event) => { dragging = true; stage.setPointerCapture(event.pointerId); follow(event); });
  stage.addEventListener("pointermove", (event) => { if (dragging) follow(event); });
  stage.addEventListener("pointerup", () => { dragging = false; });
  stage.addEventListener("pointercancel", () => { dragging = false; });

  put(card, [stage, slider, sides,
    el("figcaption", {},
      el("div", {class: "quiet"}, `${number}. ${picture.name}${picture.prompt ? ` – ${promptText(picture.prompt)}` : ""}`),
      el("div", {class: "row screen", style: {"margin-top": "4px"}},
        choose("Left", (i) => { left = i; }), choose("Right", (i) => { right = i; }),
        el("label", {}, el("input", {type: "checkbox", checked: true, onchange: (event) => { mark = event.target.checked; draw(); }}), " mark differences")))]);

  (async () => {
    const first = await loadPixels(masks[0].image);
    loaded = [first];
    for (const mask of masks.slice(1)) loaded.push(await loadPixels(mask.image, first.width, first.height));
    const source = picture.image && report.images ? report.images[picture.image] : null;
    if (source) photo = (await loadPixels(source.data, 0, 0, true)).image;
    canvas.width = first.width; canvas.height = first.height;
    draw();
    card.dataset.ready = "1";
  })().catch(() => { put(sides, ["This picture cannot be shown."]); });
  return card;
}

function picturesSection(subject) {
  const pictures = list(subject.pictures).filter((picture) => list(picture.masks).length > 0);
  if (pictures.length === 0) return null;
  const isMap = pictures.some((picture) => picture.kind === "map");
  return el("section", {"aria-labelledby": "h-pictures"},
    el("h2", {id: "h-pictures"}, "The pictures, worst first"),
    el("p", {class: "quiet"}, "Drag the slider: left of the line one form's answer, right of it another's."),
    el("div", {class: "legend"},
      !isMap && el("span", {}, el("i", {style: {background: "rgb(38,139,210)"}}), "mask"),
      el("span", {}, el("i", {style: {background: "rgb(230,0,126)"}}), isMap ? "brighter than FP32's (by a tenth of its range or more)" : "set, but not in FP32"),
      el("span", {}, el("i", {style: {background: "rgb(255,176,0)"}}), isMap ? "darker than FP32's" : "missing, set in FP32")),
    el("div", {class: "pictures"}, pictures.map((picture, i) => pictureCard(subject, picture, i + 1))));
}

// ---- Figures

function formsSection(subject) {
  const forms = list(subject.forms);
  if (forms.length === 0) return null;
  const score = subject.score || {};
  const base = median(forms[0]);
  const judged = forms.some((form) => isNumber(form.score));
  const head = ["form", ...(judged ? [`#${score.name || "score"}`, "#at least", "#p5"] : []), "#SQNR", "#ms", "#times as fast", "#INT8 MACs", "#size", "file"];
  const rows = forms.map((form, i) => [form.name,
    ...(judged ? [i === 0 && !isNumber(form.score) ? "1" : fixed(form.score, 4), fixed(form.mean_bound, 4), fixed(form.p5, 4)] : []),
    i === 0 ? "–" : decibels(form.sqnr_db),
    median(form) === null ? "–" : el("span", {title: `10th to 90th percentile: ${short(form.milliseconds.p10)} to ${short(form.milliseconds.p90)} ms`}, short(median(form), 3)),
    base && median(form) ? `${(base / median(form)).toFixed(2)} ×` : "–", percent(form.int8_macs_share), bytes(form.bytes), form.file || ""]);
  return el("section", {"aria-labelledby": "h-forms"}, el("h2", {id: "h-forms"}, "Figures"),
    table(head, rows, (r) => r === rows.length - 1),
    judged && el("p", {class: "quiet"}, "“At least”: the mean's one-sided 95 % bound for pictures never seen. p5: the 5th percentile. ms: median of whole runs, in turns."),
    score.note && el("p", {class: "quiet"}, score.note));
}

// ---- Score distribution

function distributionChart(subject) {
  const score = subject.score || {};
  const series = list(subject.forms).map((form) => ({form, values: list(form.scores).flat().filter(isNumber)})).filter((s) => s.values.length > 0);
  if (series.length === 0) return null;
  const all = series.flatMap((s) => s.values).filter((v) => Math.abs(v) < 999);
  if (all.length === 0) return null;
  let low = Math.min(...all), high = score.unit ? Math.max(...all) : 1;
  if (!(high > low)) { low -= Math.abs(low) * .05 + 1e-6; high += score.unit ? 1e-6 : 0; }
  const pad = (high - low) * .03;
  low -= pad;
  if (score.unit) high += pad;
  const bins = 30, width = 480, left = 8, rowHeight = 92, height = series.length * rowHeight + 40;
  const x = (v) => left + (Math.min(Math.max(v, low), high) - low) / (high - low) * (width - left - 12);
  const parts = [];
  const told = [];
  series.forEach((entry, row) => {
    const counts = new Array(bins).fill(0);
    for (const v of entry.values) counts[Math.min(bins - 1, Math.max(0, Math.floor((v - low) / (high - low) * bins)))]++;
    const most = Math.max(...counts), base = row * rowHeight + rowHeight - 14;
    const sorted = [...entry.values].sort((a, b) => a - b);
    const mean = sorted.reduce((a, b) => a + b, 0) / sorted.length;
    const p5 = sorted[Math.floor(.05 * (sorted.length - 1))];
    const text = `${entry.form.name}: ${sorted.length} ${sorted.length === 1 ? "value" : "values"}, mean ${short(mean)}, worst ${short(sorted[0])}${score.unit ? " " + score.unit : ""}`;
    told.push(text);
    parts.push(svg("text", {x: left, y: row * rowHeight + 14, class: "strong"}, text));
    counts.forEach((count, b) => {
      if (count === 0) return;
      const h = Math.max(2, count / most * (rowHeight - 44));
      parts.push(svg("rect", {x: x(low + (high - low) * b / bins) + 1, y: base - h, width: (width - left - 12) / bins - 2, height: h, rx: 2, style: {fill: "var(--bar)"}},
        svg("title", {}, `${count} from ${short(low + (high - low) * b / bins)} to ${short(low + (high - low) * (b + 1) / bins)}`)));
    });
    parts.push(svg("line", {x1: left, x2: width - 12, y1: base, y2: base, class: "axis"}));
    parts.push(svg("line", {x1: x(mean), x2: x(mean), y1: base - rowHeight + 40, y2: base + 5, style: {stroke: "var(--ink)", "stroke-width": 2}}, svg("title", {}, `mean ${short(mean)}`)));
    parts.push(svg("line", {x1: x(p5), x2: x(p5), y1: base - 20, y2: base + 5, style: {stroke: "var(--clip)", "stroke-width": 2, "stroke-dasharray": "3 2"}}, svg("title", {}, `5th percentile ${short(p5)}`)));
  });
  if (isNumber(score.goal) && score.goal > low) {
    parts.push(svg("line", {x1: x(score.goal), x2: x(score.goal), y1: 20, y2: height - 40, style: {stroke: "var(--good)", "stroke-dasharray": "5 4"}}));
    parts.push(svg("text", {x: x(score.goal) - 4, y: height - 44, "text-anchor": "end"}, `goal ${short(score.goal)}`));
  }
  for (const t of ticks(low, high, 6)) {
    parts.push(svg("text", {x: x(t), y: height - 20, "text-anchor": "middle"}, short(t)));
  }
  parts.push(svg("text", {x: width - 12, y: height - 3, "text-anchor": "end"}, `${score.name || "score"}${score.unit ? ` in ${score.unit}` : ", 1 is FP32's own answer"}`));
  return el("section", {"aria-labelledby": "h-scores"}, el("h2", {id: "h-scores"}, "How the scores are spread"),
    svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Distribution of ${score.name || "scores"}. ${told.join(". ")}`}, parts),
    el("p", {class: "quiet"}, "Black: mean; dashed: 5th percentile."),
    el("details", {}, el("summary", {}, "As a table"), table(["sample", ...series.map((s) => `#${s.form.name}`)],
      list(series[0].form.scores).slice(0, 500).map((_, i) => [list(subject.samples)[i] || String(i + 1), ...series.map((s) => list(list(s.form.scores)[i]).map((v) => short(v)).join(", "))]))));
}

// ---- Score and latency

function frontChart(subject) {
  const front = subject.front || {};
  const score = subject.score || {};
  let points = list(front.walked).filter((p) => isNumber(p.score) && isNumber(p.ms)).map((p, i) => ({
    name: p.last ? `${p.raised} raised, last ${p.last}` : p.raised ? `${p.raised} raised` : "everything in INT8", x: p.ms, y: p.score, on: p.on_front, chosen: i === front.chosen}));
  let axis = "ms, sum over layers";
  if (points.length > 0 && isNumber(front.fp32_ms)) points.push({name: "everything in FP32", x: front.fp32_ms, y: 1, on: true});
  if (points.length === 0) {
    axis = "ms per run";
    const judged = list(subject.forms).some((form) => isNumber(form.score));
    points = list(subject.forms).map((form, i, all) => ({name: form.name, x: median(form), y: judged ? (isNumber(form.score) ? form.score : i === 0 ? 1 : null) : null, chosen: i === all.length - 1}))
      .filter((p) => isNumber(p.x) && isNumber(p.y));
    for (const p of points) p.on = !points.some((q) => q !== p && q.x <= p.x && q.y >= p.y && (q.x < p.x || q.y > p.y));
  }
  if (points.length < 2) return null;
  const width = 480, height = 330, left = 58, bottom = 46, top = 14;
  const goal = front.goal && isNumber(front.goal.mean) ? front.goal.mean : null;
  const ys = points.map((p) => p.y).concat(goal === null ? [] : [goal]);
  const range = (values) => { const low = Math.min(...values), high = Math.max(...values), pad = (high - low || Math.abs(high) || 1) * .08; return [low - pad, high + pad]; };
  const [x0, x1] = range(points.map((p) => p.x)), [y0, y1] = range(ys);
  const x = (v) => left + (v - x0) / (x1 - x0) * (width - left - 16), y = (v) => height - bottom - (v - y0) / (y1 - y0) * (height - bottom - top);
  const parts = [];
  for (const t of ticks(y0, y1, 6)) parts.push(svg("line", {x1: left, x2: width - 16, y1: y(t), y2: y(t), class: "axis"}), svg("text", {x: left - 8, y: y(t) + 4, "text-anchor": "end"}, short(t)));
  for (const t of ticks(x0, x1, 6)) parts.push(svg("text", {x: x(t), y: height - bottom + 18, "text-anchor": "middle"}, short(t)));
  parts.push(svg("text", {x: width - 16, y: height - 8, "text-anchor": "end"}, axis), svg("text", {x: left, y: 6}, score.name || "score"));
  if (goal !== null) parts.push(svg("line", {x1: left, x2: width - 16, y1: y(goal), y2: y(goal), style: {stroke: "var(--good)", "stroke-dasharray": "5 4"}}), svg("text", {x: width - 16, y: y(goal) - 5, "text-anchor": "end"}, `goal ${short(goal)}`));
  const line = points.filter((p) => p.on).sort((a, b) => a.x - b.x);
  if (line.length > 1) parts.push(svg("polyline", {points: line.map((p) => `${x(p.x)},${y(p.y)}`).join(" "), style: {fill: "none", stroke: "var(--bar)", "stroke-width": 2}}));
  for (const p of points) {
    parts.push(svg("circle", {cx: x(p.x), cy: y(p.y), r: p.chosen ? 8 : 5, tabindex: 0, role: "img", "aria-label": `${p.name}: ${short(p.y)}, ${short(p.x)} ms${p.chosen ? ", chosen" : ""}`,
      style: {fill: p.chosen ? "var(--accent)" : p.on ? "var(--bar)" : "var(--card)", stroke: p.chosen ? "var(--ink)" : "var(--bar)", "stroke-width": 2}}, svg("title", {}, `${p.name}: ${short(p.y)}, ${short(p.x)} ms`)));
    if (p.chosen || points.length <= 6) parts.push(svg("text", {x: x(p.x) + (x(p.x) > width * .6 ? -12 : 12), y: y(p.y) + (y(p.y) < 40 ? 18 : -8), "text-anchor": x(p.x) > width * .6 ? "end" : "start", class: "strong"}, p.name.length > 34 ? p.name.slice(0, 33) + "…" : p.name));
  }
  const chosen = points.find((p) => p.chosen);
  return el("section", {"aria-labelledby": "h-front"}, el("h2", {id: "h-front"}, "Quality against time"),
    svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${score.name || "Score"} over milliseconds, ${points.length} points${chosen ? `; chosen: ${chosen.name}` : ""}`}, parts),
    el("p", {class: "quiet"}, "Filled: nothing else is at least as good in every respect. The large point is the one that was chosen."),
    el("details", {}, el("summary", {}, "As a table"), table(["point", `#${score.name || "score"}`, "#ms", ""], points.map((p) => [p.name, short(p.y), short(p.x), p.chosen ? "chosen" : p.on ? "on the front" : ""]))));
}

// ---- Layers

function histogramChart(operand, tensor) {
  const h = tensor && tensor.histogram;
  if (!h || !isNumber(h.low) || !isNumber(h.high) || !(h.high > h.low)) return null;
  const counts = list(h.counts).map((c) => (isNumber(c) && c > 0 ? c : 0));
  if (counts.length === 0) return null;
  const clip = list(operand.clip);
  const inside = clip.filter((v) => isNumber(v));
  const low = h.low, high = h.high;
  const width = 400, height = 130, bottom = 32, top = 8;
  const most = Math.log10(Math.max(...counts) + 1) || 1;
  const x = (v) => 4 + (Math.min(Math.max(v, low), high) - low) / (high - low) * (width - 8);
  const parts = counts.map((count, i) => {
    const bar = Math.log10(count + 1) / most * (height - bottom - top);
    const from = low + (high - low) * i / counts.length, to = low + (high - low) * (i + 1) / counts.length;
    const out = inside.length === 2 && (to <= inside[0] || from >= inside[1]);
    return svg("rect", {x: x(from) + .5, y: height - bottom - bar, width: Math.max(.5, x(to) - x(from) - 1), height: bar, style: {fill: out ? "var(--clip)" : "var(--bar)"}},
      svg("title", {}, `${many(count)} values from ${short(from)} to ${short(to)}`));
  });
  parts.push(svg("line", {x1: 4, x2: width - 4, y1: height - bottom, y2: height - bottom, class: "axis"}));
  const labels = [[low, "start"], [high, "end"]];
  for (const [v, anchor] of labels) parts.push(svg("text", {x: x(v), y: height - bottom + 14, "text-anchor": anchor}, short(v, 3)));
  inside.forEach((v, i) => {
    if (v < low || v > high) return;
    parts.push(svg("line", {x1: x(v), x2: x(v), y1: top, y2: height - bottom + 4, style: {stroke: "var(--clip)", "stroke-width": 2}}));
    parts.push(svg("text", {x: x(v), y: height - 4, "text-anchor": x(v) > width * .7 ? "end" : x(v) < width * .3 ? "start" : "middle", style: {fill: "var(--clip)"}}, `clip ${short(v, 3)}`));
  });
  return svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", class: "histogram",
    "aria-label": `Histogram of ${operand.tensor}: values from ${short(low)} to ${short(high)}; clipped at ${inside.map((v) => short(v)).join(" and ")}`}, parts);
}

function operandBlock(subject, operand) {
  const tensor = subject.tensors && operand.tensor ? subject.tensors[operand.tensor] : null;
  const range = list(operand.range).length === 2 ? operand.range : tensor ? list(tensor.range) : [];
  const facts = [];
  const fact = (name, value) => { if (value) facts.push(el("dt", {}, name), el("dd", {}, value)); };
  fact("tensor", operand.tensor);
  fact("values", range.length === 2 ? `${short(range[0])} to ${short(range[1])}` : null);
  fact("represented", list(operand.clip).length === 2 ? `${short(operand.clip[0])} to ${short(operand.clip[1])} in ${operand.dtype}` : operand.dtype);
  if (isNumber(operand.scale)) fact("scale", `${short(operand.scale)}, zero point ${operand.zero_point}`);
  if (operand.scales) fact("scales", operand.scales.count > 1 ? `${operand.scales.count} channels, ${short(operand.scales.min)} to ${short(operand.scales.max)}` : short(operand.scales.min));
  fact("clipped", isNumber(operand.clipped_share) ? percent(operand.clipped_share, 4) : null);
  fact("rounded to", isNumber(operand.sqnr_db) ? decibels(operand.sqnr_db) : null);
  fact("why", operand.reason);
  return el("div", {}, el("h3", {}, operand.kind === "weight" ? "Weight" : "Activation"), histogramChart(operand, tensor), el("dl", {}, facts));
}

function layerDetails(subject, layer, position) {
  const facts = [];
  const fact = (name, value) => { if (value !== null && value !== undefined && value !== "") facts.push(el("dt", {}, name), el("dd", {}, value)); };
  fact("precision", layer.precision);
  fact("output", list(layer.dims).join(" × "));
  fact("MACs", isNumber(layer.macs) ? many(layer.macs) : null);
  fact("parameters", isNumber(layer.parameters) ? many(layer.parameters) : null);
  const times = Object.entries(layer.ms || {}).filter(([, ms]) => isNumber(ms));
  fact("time", times.length > 0 ? times.map(([form, ms]) => `${form} ${short(ms, 3)} ms`).join(", ") : null);
  fact("sensitivity", isNumber(layer.sensitivity) ? `${short(layer.sensitivity, 3)} (${(subject.sensitivity || {}).what || ""})` : null);
  for (const [name, value] of Object.entries(layer.figures || {})) fact(name, isNumber(value) ? short(value, 4) : null);
  fact("remedies", list(layer.remedies).join(", "));
  fact("hard because", layer.reason);
  fact("float because", layer.why_float);
  return [el("h3", {}, layer.node, " ", el("span", {class: "quiet"}, `${layer.op || ""}, layer ${position + 1} of ${subject.layers.length}`)),
    el("dl", {}, facts), el("div", {class: "operands"}, list(layer.operands).map((operand) => operandBlock(subject, operand)))];
}

// Classes 0 to 6: equal steps of a logarithm over three powers of ten below the largest.
function heatOf(value, most) {
  if (!isNumber(value) || value <= 0 || !(most > 0)) return 0;
  return Math.max(1, Math.min(6, Math.ceil(6 + 2 * Math.log10(value / most))));
}

function layersSection(subject) {
  const layers = list(subject.layers);
  if (layers.length === 0) return null;
  const kOverscan = 8;
  let cellWidth = 13;
  let most = 0, slowest = 0;
  const weightOf = (layer) => { const times = Object.values(layer.ms || {}).filter(isNumber); return times.length > 0 ? Math.max(...times) : 0; };
  const timed = layers.some((layer) => weightOf(layer) > 0);
  const size = layers.map((layer) => (timed ? weightOf(layer) : isNumber(layer.macs) ? layer.macs : 0));
  layers.forEach((layer, i) => { if (isNumber(layer.sensitivity)) most = Math.max(most, layer.sensitivity); slowest = Math.max(slowest, size[i]); });
  let order = layers.map((_, i) => i), chosen = 0, hovered = -1;
  const inner = el("div", {class: "inner", role: "presentation"});
  const strip = el("div", {class: "strip", role: "listbox", tabindex: "0", "aria-label": "Layers of the graph; arrow keys move, details follow below", "aria-orientation": "horizontal"}, inner);
  const overview = el("canvas", {class: "overview screen", height: 26, "aria-hidden": "true"});
  const details = el("div", {class: "layer", "aria-live": "polite"});
  const count = el("span", {class: "quiet"});
  const cells = new Map();

  function show(position) {
    const index = order[position];
    details.replaceChildren();
    if (index === undefined) { put(details, [el("p", {class: "quiet"}, "No layer has that name.")]); return; }
    details.dataset.node = layers[index].node;
    put(details, layerDetails(subject, layers[index], index));
  }

  function render() {
    const first = Math.max(0, Math.floor(strip.scrollLeft / cellWidth) - kOverscan);
    const last = Math.min(order.length, Math.ceil((strip.scrollLeft + strip.clientWidth) / cellWidth) + kOverscan);
    for (const [position, cell] of cells) {
      if (position < first || position >= last) { cell.remove(); cells.delete(position); }
    }
    for (let position = first; position < last; ++position) {
      let cell = cells.get(position);
      if (!cell) {
        const index = order[position], layer = layers[index];
        const height = slowest > 0 ? 3 + 71 * Math.sqrt(size[index] / slowest) : 20;
        cell = el("div", {class: "cell", role: "option", id: `layer-${position}`, "data-position": position, "aria-posinset": position + 1, "aria-setsize": order.length,
          "aria-label": `${layer.node}, ${layer.op || ""}, ${layer.precision || ""}`, style: {left: `${position * cellWidth}px`, width: `${cellWidth}px`}},
          el("div", {class: `bar ${kPrecisions.includes(layer.precision) ? layer.precision : ""}`, style: {height: `${height}px`}}),
          el("div", {class: `heat h${heatOf(layer.sensitivity, most)}`}));
        cells.set(position, cell);
        inner.append(cell);
      }
      cell.classList.toggle("chosen", position === chosen);
      cell.setAttribute("aria-selected", position === chosen ? "true" : "false");
    }
    if (cells.has(chosen)) strip.setAttribute("aria-activedescendant", `layer-${chosen}`);
    drawOverview();
  }

  function choose(position, scroll) {
    chosen = Math.max(0, Math.min(order.length - 1, position));
    if (scroll) {
      const at = chosen * cellWidth;
      if (at < strip.scrollLeft || at + cellWidth > strip.scrollLeft + strip.clientWidth) strip.scrollLeft = at - strip.clientWidth / 2;
    }
    render();
    show(chosen);
  }

  let overviewKey = "";
  let overviewImage = null;
  function drawOverview() {
    const width = Math.max(1, Math.round(overview.clientWidth || 600));
    const style = getComputedStyle(document.documentElement);
    const context = overview.getContext("2d", {willReadFrequently: true});
    const key = `${width} ${order.length} ${order[0]} ${order[order.length - 1]} ${style.getPropertyValue("--page")}`;
    if (key !== overviewKey) {
      overviewKey = key;
      overview.width = width; overview.height = 26;
      const colours = Object.fromEntries([...kPrecisions, "other", "s0", "s1", "s2", "s3", "s4", "s5", "s6"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
      // A column stands for several layers where there are many: the hardest of them is shown.
      for (let column = 0; column < width; ++column) {
        const from = Math.floor(column * order.length / width), to = Math.max(from + 1, Math.floor((column + 1) * order.length / width));
        let worst = 0, precision = "int8";
        for (let i = from; i < to && i < order.length; ++i) {
          const layer = layers[order[i]];
          worst = Math.max(worst, heatOf(layer.sensitivity, most));
          if (kPrecisions.indexOf(layer.precision) > kPrecisions.indexOf(precision)) precision = layer.precision;
        }
        context.fillStyle = colours[precision] || colours.other; context.fillRect(column, 0, 1, 13);
        context.fillStyle = colours[`s${worst}`]; context.fillRect(column, 13, 1, 13);
      }
      overviewImage = context.getImageData(0, 0, width, 26);
    } else if (overviewImage) {
      context.putImageData(overviewImage, 0, 0);
    }
    const total = Math.max(1, order.length * cellWidth);
    if (total > strip.clientWidth) {
      context.strokeStyle = style.getPropertyValue("--ink").trim(); context.lineWidth = 2;
      context.strokeRect(strip.scrollLeft / total * width + 1, 1, Math.max(6, strip.clientWidth / total * width) - 2, 24);
    }
  }

  function arrange() {
    const wanted = search.value.trim().toLowerCase();
    order = layers.map((_, i) => i).filter((i) => wanted === "" || `${layers[i].node} ${layers[i].op || ""}`.toLowerCase().includes(wanted));
    const by = {sensitivity: (i) => -(layers[i].sensitivity || 0), time: (i) => -weightOf(layers[i]), macs: (i) => -(layers[i].macs || 0)}[sort.value];
    if (by) order.sort((a, b) => by(a) - by(b) || a - b);
    for (const cell of cells.values()) cell.remove();
    cells.clear();
    cellWidth = Math.max(13, Math.min(26, Math.floor((strip.clientWidth - 2) / Math.max(1, order.length))));
    inner.style.width = `${order.length * cellWidth}px`;
    count.textContent = `${order.length} of ${layers.length} layers`;
    strip.scrollLeft = 0;
    overviewKey = "";
    choose(0, false);
  }

  function begin() {
    arrange();
    const hard = layers.map((layer, i) => [layer.sensitivity || 0, i]).sort((a, b) => b[0] - a[0] || a[1] - b[1])[0];
    choose(hard[1], true);
  }

  const search = el("input", {type: "search", placeholder: "Find a layer", "aria-label": "Find a layer by name or op", oninput: () => arrange()});
  const sort = el("select", {"aria-label": "Order of layers", onchange: () => arrange()},
    [["graph", "in the graph's order"], ["sensitivity", "most sensitive first"], ["time", "slowest first"], ["macs", "most MACs first"]].map(([value, text]) => el("option", {value}, text)));
  const positionOf = (event) => { const cell = event.target.closest(".cell"); return cell ? Number(cell.dataset.position) : -1; };
  inner.addEventListener("pointerover", (event) => { const p = positionOf(event); if (p >= 0 && p !== hovered && event.pointerType === "mouse") { hovered = p; show(p); } });
  inner.addEventListener("pointerleave", () => { if (hovered >= 0) { hovered = -1; show(chosen); } });
  inner.addEventListener("click", (event) => { const p = positionOf(event); if (p >= 0) choose(p, false); });
  strip.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(strip.clientWidth / cellWidth) - 1);
    const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -order.length, End: order.length};
    if (!(event.key in steps)) return;
    event.preventDefault();
    choose(chosen + steps[event.key], true);
  });
  let waiting = false;
  const later = () => { if (waiting) return; waiting = true; requestAnimationFrame(() => { waiting = false; render(); }); };
  strip.addEventListener("scroll", later, {passive: true});
  window.addEventListener("resize", later);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { overviewKey = ""; later(); });
  overview.addEventListener("click", (event) => {
    const box = overview.getBoundingClientRect();
    strip.scrollLeft = (event.clientX - box.left) / Math.max(1, box.width) * order.length * cellWidth - strip.clientWidth / 2;
  });

  const present = kPrecisions.filter((precision) => layers.some((layer) => layer.precision === precision));
  const hardest = layers.map((layer, i) => [layer, i]).filter(([layer]) => isNumber(layer.sensitivity)).sort((a, b) => b[0].sensitivity - a[0].sensitivity).slice(0, 20);
  const section = el("section", {"aria-labelledby": "h-layers"}, el("h2", {id: "h-layers"}, "The layers"),
    el("div", {class: "legend"},
      present.map((precision) => el("span", {}, el("i", {class: precision}), precision)),
      el("span", {}, timed ? "height: milliseconds" : "height: multiply-accumulates"),
      most > 0 && el("span", {}, "below: ", [1, 2, 3, 4, 5, 6].map((h) => el("i", {class: `h${h}`, style: {"margin-right": "1px"}})), ` ${(subject.sensitivity || {}).what || "sensitivity"}, up to ${short(most, 3)}; a colour is half a power of ten`)),
    el("div", {class: "row screen"}, search, sort, count), strip, overview, details,
    hardest.length > 0 && el("details", {}, el("summary", {}, `The ${hardest.length} most sensitive layers as a table`),
      table(["layer", "op", "precision", "#MACs", "#ms", "#sensitivity", "why"], hardest.map(([layer]) => [layer.node, layer.op || "", layer.precision || "", many(layer.macs),
        Object.values(layer.ms || {}).filter(isNumber).map((ms) => short(ms, 3)).join(" → ") || "–", short(layer.sensitivity, 3), layer.reason || layer.why_float || list(layer.remedies).join(", ")]))));
  section.ready = begin;
  return section;
}

// ---- The rest

function outputsSection(subject) {
  const outputs = list(subject.outputs);
  if (outputs.length === 0) return null;
  return el("section", {}, el("h2", {}, "Outputs against float"),
    table(["output", "#SQNR", "#worst sample", "#cosine", "#largest error"], outputs.map((o) => [o.name, decibels(o.sqnr_db), decibels(o.min_sqnr_db), fixed(o.cosine, 6), short(o.max_abs_error, 3)])));
}

function recipeSection(subject) {
  const remedies = list(subject.remedies), recipe = subject.recipe;
  if (remedies.length === 0 && !recipe) return null;
  const tell = el("pre", {tabindex: "0"});
  return el("section", {}, el("h2", {}, "The recipe"),
    remedies.length > 0 && table(["remedy", "#SQNR", "#gain", "", "why"], remedies.map((r) => [r.name, decibels(r.sqnr_db), isNumber(r.gain_db) ? `${r.gain_db >= 0 ? "+" : ""}${r.gain_db.toFixed(1)} dB` : "–", r.kept ? "kept" : "dropped", r.reason])),
    recipe && el("p", {class: "quiet"}, "All decisions: ", el("code", {}, recipe.file || ""), "; quantizing with ", el("code", {}, "--recipe"), " and that file repeats this model."),
    recipe && el("details", {ontoggle: () => { if (tell.textContent === "") tell.textContent = JSON.stringify(recipe.decisions, null, 1); }}, el("summary", {}, "Decisions, long lists shortened"), tell));
}

function quoteArgument(argument) {
  return /^[A-Za-z0-9_@%+=:,.\/-]+$/.test(argument) ? argument : `'${argument.replace(/'/g, `'\\''`)}'`;
}

function runSection() {
  const machine = run.machine || {};
  const facts = [];
  const fact = (name, value) => { if (value) facts.push(el("dt", {}, name), el("dd", {}, value)); };
  fact("version", run.version ? `octavo ${run.version}` : "");
  fact("command", list(run.command_line).length > 0 ? el("code", {}, run.command_line.map((a) => quoteArgument(String(a))).join(" ")) : "");
  fact("time", `${run.time || ""}${isNumber(run.seconds) ? `, took ${short(run.seconds, 3)} s` : ""}`);
  fact("seed", isNumber(run.seed) ? `${run.seed} (what splits samples)` : "");
  fact("CPU", `${machine.cpu || "unknown"}${machine.isa ? `, ${machine.isa}` : ""}`);
  fact("threads", isNumber(machine.threads) ? `${machine.threads} of ${machine.cores} cores` : "");
  fact("memory", isNumber(machine.memory_bytes) && machine.memory_bytes > 0 ? `${(machine.memory_bytes / 2 ** 30).toFixed(1)} GiB` : "");
  fact("system", machine.system);
  return el("section", {}, el("h2", {}, "How this was made"), el("dl", {}, facts),
    list(report.notes).length > 0 && el("ul", {}, report.notes.map((note) => el("li", {}, note))));
}

function render(subject) {
  const kept = subject.summary.kept;
  const words = kept === true ? ["good", "The picture is kept"] : kept === false ? ["bad", "The picture is not kept"] : ["", "No goal to hold it against"];
  main.replaceChildren();
  const layers = layersSection(subject);
  const side = [distributionChart(subject), frontChart(subject)].filter(Boolean);
  put(main, [el("section", {class: "lead"}, el("span", {class: `badge ${words[0]}`}, words[1]), el("h1", {}, subject.summary.sentence)),
    picturesSection(subject), formsSection(subject), side.length > 0 && el("div", {class: "columns"}, side), layers, outputsSection(subject), recipeSection(subject), runSection()]);
  if (layers) layers.ready();
}

document.getElementById("command").textContent = `${report.command} – ${run.time || ""}`;
const subjects = list(report.subjects);
document.title = `Octavo: ${subjects.map((s) => s.name).join(", ")}`;
const tabs = document.getElementById("subjects");
function select(i) {
  [...tabs.children].forEach((button, k) => button.setAttribute("aria-pressed", k === i ? "true" : "false"));
  render(subjects[i]);
}
if (subjects.length > 1) put(tabs, subjects.map((subject, i) => el("button", {type: "button", onclick: () => select(i)}, subject.name)));
document.getElementById("footer").textContent = "One file: it loads nothing and sends nothing. report.json beside it holds the same figures.";
if (subjects.length > 0) select(0); else put(main, [el("p", {}, "This report holds no model.")]);
})();
