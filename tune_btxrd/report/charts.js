// The page's pictures: each function takes (d: payload, shown: trials to show, c: colours) and returns Plotly's {data, layout}.
"use strict";

const STATES = { // their words come with the numbers
  complete: { symbol: "circle" },
  pruned: { symbol: "triangle-down" },
  diverged: { symbol: "x" },
  failed: { symbol: "square" },
  running: { symbol: "circle-open" },
  paused: { symbol: "cross" },
};
const DASHES = ["solid", "dash", "dot", "dashdot"];

const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
function short(value) {
  if (typeof value !== "number") return plain(value);
  return value && Math.abs(value) < 1e-3 ? value.toExponential(2).replace(/\.?0+e/, "e") : String(Number(value.toPrecision(3)));
}
const isNumber = (value) => typeof value === "number";
const column = (d, name) => d.columns.indexOf(name);

function quantile(values, share) {
  const sorted = values.filter(isNumber).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : 1;
}

function lossRange(values) { // a few diverging losses must not flatten all others
  const low = quantile(values, 0), high = quantile(values, 0.97);
  const pad = 0.06 * (high - low || 1);
  return [low - pad, high + pad];
}

function scoreRange(d, values) { // the same for monitored values, whichever side is the bad one
  const sign = d.monitor.higher ? -1 : 1, range = lossRange(values.filter(isNumber).map((value) => sign * value));
  return d.monitor.higher ? [-range[1], -range[0]] : range;
}

function mix(a, b, share) {
  const part = (hex, at) => parseInt(hex.slice(at, at + 2), 16);
  const one = (at) => Math.round(part(a, at) + (part(b, at) - part(a, at)) * share).toString(16).padStart(2, "0");
  return "#" + one(1) + one(3) + one(5);
}

function hover(t) {
  const values = Object.entries(t.params).map(([name, value]) => `${plain(name)} ${short(value)}`).join("<br>");
  const loss = isNumber(t.objective) ? `best ${plain(t.shown)}` : plain(t.reason);
  return `<b>trial ${plain(t.label)}</b> (${STATES[t.state].words})<br>${loss}<br>${values}`;
}

// One trace of points per state; `place` gives a trial's [x, y] or null.
function points(shown, c, place, extra = {}) {
  return Object.keys(STATES).flatMap((state) => {
    const mine = shown.filter((t) => t.state === state && place(t));
    if (!mine.length) return [];
    return [{
      type: "scatter", mode: "markers", name: STATES[state].words,
      x: mine.map((t) => place(t)[0]), y: mine.map((t) => place(t)[1]), customdata: mine.map((t) => t.label),
      text: mine.map(hover), hovertemplate: "%{text}<extra></extra>",
      marker: { color: c[state], symbol: STATES[state].symbol, size: 8, opacity: 0.85 }, ...extra,
    }];
  });
}

const trace = (values) => ({ type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false, ...values });
const axis = (title, more = {}) => ({ title: { text: plain(title), font: { size: 13 } }, ...more });
const countAxis = (title, last) => axis(title, { tickformat: "d", dtick: last <= 12 ? 1 : undefined, nticks: 10 });
const valueAxis = (name, dimension, more) => axis(name, dimension.choices ? { type: "category", ...more } : dimension.log
  ? { type: "log", dtick: 1, exponentformat: "power", range: [Math.log10(dimension.low) - 0.1, Math.log10(dimension.high) + 0.1], ...more }
  : { nticks: 5, ...more });
const searched = (shown) => shown.filter((t) => t.role === "search");

const CHARTS = {
  history(d, shown, c) {
    const mine = searched(shown), scored = mine.filter((t) => isNumber(t.objective));
    const range = scoreRange(d, scored.map((t) => t.score)), worst = range[d.monitor.higher ? 0 : 1];
    const better = d.monitor.higher ? Math.max : Math.min, worse = d.monitor.higher ? Math.min : Math.max;
    let best = worse(Infinity, -Infinity);
    const steps = scored.map((t) => (best = better(best, t.score)));
    const line = trace({ x: scored.map((t) => t.number), y: steps, line: { shape: "hv", color: c.soft, width: 1.5 },
      name: "best so far", showlegend: true });
    const dots = points(mine, c, (t) => [t.number, isNumber(t.objective) ? better(t.score, worst) : worst]);
    return { data: [line, ...dots], layout: { xaxis: countAxis("trial", mine.length), yaxis: axis(`best ${d.monitor.label}`, { range }) } };
  },

  curves(d, shown, c) {
    const loss = column(d, d.monitor.column), mine = searched(shown);
    const data = Object.keys(STATES).flatMap((state) => {
      const x = [], y = [], labels = [];
      for (const t of mine.filter((t) => t.state === state && t.rows.length)) {
        for (const row of t.rows) { x.push(row[0]); y.push(row[loss]); labels.push(t.label); }
        x.push(null); y.push(null); labels.push(t.label);
      }
      const few = mine.length < 40;
      return x.length ? [{ type: "scatter", mode: "lines+markers", name: STATES[state].words, x, y, customdata: labels,
        hovertemplate: `trial %{customdata}<br>epoch %{x}<br>${d.monitor.label} %{y:.4f}<extra></extra>`,
        opacity: few ? 0.9 : 0.5, line: { color: c[state], width: few ? 1.6 : 1 }, marker: { size: few ? 4 : 2.5 } }] : [];
    });
    const names = new Set(mine.map((t) => t.label)), cuts = d.cutoffs.filter((v) => names.has(v.trial));
    if (cuts.length) {
      data.push({ type: "scatter", mode: "markers", name: "cutoff that was met", x: cuts.map((v) => v.epoch),
        y: cuts.map((v) => v.cutoff), customdata: cuts.map((v) => v.trial),
        hovertemplate: "cutoff for trial %{customdata}: %{y:.4f}<extra></extra>", opacity: cuts.length > 40 ? 0.35 : 1,
        marker: { symbol: "line-ew-open", size: 11, color: c.ink, line: { width: cuts.length > 40 ? 0.8 : 1.5 } } });
    }
    const rung = (x) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: c.soft, width: 1, dash: "dot" } });
    const name = (x) => ({ x, y: 1, yref: "paper", yanchor: "bottom", text: "rung", showarrow: false, font: { size: 11, color: c.soft } });
    const range = scoreRange(d, mine.flatMap((t) => t.rows.map((row) => row[loss])));
    return { data, layout: { xaxis: countAxis("epoch", d.epochs), yaxis: axis(d.monitor.label, { range }), shapes: d.rungs.map(rung),
      annotations: d.rungs.map(name), height: 460 } };
  },

  pareto(d, shown, c) {
    const front = d.front.map((label) => d.trials.find((t) => t.label === label)), mine = searched(shown);
    const line = trace({ x: front.map((t) => t.score), y: front.map((t) => t.bestRecall),
      line: { shape: "hv", color: c.soft, width: 1.5 }, name: "no trial beats these", showlegend: true });
    const place = (t) => (isNumber(t.objective) && isNumber(t.bestRecall) ? [t.score, t.bestRecall] : null);
    const range = scoreRange(d, mine.map((t) => t.score));
    return { data: [line, ...points(mine, c, place)], layout: { xaxis: axis(`${d.monitor.label} at the best epoch`, { range }),
      yaxis: axis(`${d.positive} recall`, { range: [-0.04, 1.04] }) } };
  },

  importance(d, shown, c) {
    const items = [...d.importance].reverse(), names = items.map((i) => plain(i.name));
    const bars = { type: "bar", orientation: "h", y: names, x: items.map((i) => i.value), name: "share",
      marker: { color: items.map((i) => (i.verdict === "undetermined" ? c.soft : c.complete)) }, width: 0.5, showlegend: false,
      error_x: { type: "data", symmetric: false, array: items.map((i) => i.high - i.value),
        arrayminus: items.map((i) => i.value - i.low), color: c.ink, thickness: 1.4 },
      text: items.map((i) => i.verdict), hovertemplate: "%{y}: %{x:.0%} (%{text})<extra></extra>", textposition: "none" };
    const chance = { type: "scatter", mode: "markers", name: "reached by chance in 1 of 20", y: names, x: items.map((i) => Math.min(1, i.by_chance)),
      marker: { symbol: "line-ns-open", size: 26, color: c.diverged, line: { width: 2 } }, hovertemplate: "reached by chance: %{x:.0%}<extra></extra>" };
    return { data: [bars, chance], layout: { xaxis: axis("share of importance", { range: [0, 1.02], tickformat: ".0%" }),
      yaxis: { type: "category" }, height: 140 + 55 * items.length } };
  },

  slices(d, shown, c) {
    const mine = searched(shown).filter((t) => isNumber(t.objective)), across = Math.min(3, d.dimensions.length);
    const down = Math.ceil(d.dimensions.length / across), range = scoreRange(d, mine.map((t) => t.score));
    const layout = { grid: { rows: down, columns: across, pattern: "independent" }, height: 110 + 270 * down };
    const data = d.dimensions.flatMap((dimension, index) => {
      const end = index ? String(index + 1) : "";
      layout["xaxis" + end] = valueAxis(dimension.name, dimension, {});
      layout["yaxis" + end] = axis(index % across ? "" : `best ${d.monitor.label}`, { range });
      const value = (t) => t.params[dimension.name];
      const place = (t) => (value(t) === undefined ? null : [dimension.choices ? plain(value(t)) : value(t), t.score]);
      return points(mine, c, place, { xaxis: "x" + end, yaxis: "y" + end, showlegend: index === 0 });
    });
    return { data, layout };
  },

  landscape(d, shown, c) {
    const s = d.landscape, side = (name) => valueAxis(name, d.dimensions.find((dimension) => dimension.name === name), { showgrid: false });
    const flat = s.z.flat().filter(isNumber);
    const surface = { type: "contour", x: s.xs, y: s.ys, z: s.z, zmin: quantile(flat, d.monitor.higher ? 0.1 : 0), zmax: quantile(flat, d.monitor.higher ? 1 : 0.9), ncontours: 12,
      colorscale: d.monitor.higher ? [[0, c.high], [0.5, c.mid], [1, c.low]] : [[0, c.low], [0.5, c.mid], [1, c.high]], line: { width: 0.6, color: c.panel }, connectgaps: false,
      hovertemplate: "%{z:.4f}<extra></extra>", colorbar: { title: { text: d.monitor.label }, thickness: 12, outlinewidth: 0 } };
    const dots = points(searched(shown), c, (t) => (s.x in t.params && s.y in t.params ? [t.params[s.x], t.params[s.y]] : null));
    for (const trace of dots) Object.assign(trace.marker, { line: { color: c.panel, width: 1 } });
    return { data: [surface, ...dots], layout: { xaxis: side(s.x), yaxis: side(s.y), height: 460 } };
  },

  sizes(d, shown, c) {
    const mine = searched(shown).filter((t) => isNumber(t.objective)), size = (t) => t.config.image_size ?? d.shared.image_size;
    const known = d.sizes.filter((row) => isNumber(row.best)), timed = d.sizes.filter((row) => isNumber(row.seconds));
    const best = trace({ x: known.map((row) => row.size), y: known.map((row) => row.best), mode: "lines+markers", showlegend: true,
      name: "best of the size", line: { color: c.soft, width: 1.5 }, marker: { symbol: "line-ew-open", size: 14, color: c.soft } });
    const under = { xaxis: "x2", yaxis: "y2", showlegend: true, hoverinfo: "x+y" };
    const measured = trace({ x: timed.map((row) => row.size), y: timed.map((row) => row.seconds), mode: "lines+markers",
      name: "measured", line: { color: c.complete }, ...under });
    const unit = timed.length ? timed[0].seconds / timed[0].pixels : 0;
    const law = trace({ x: d.sizes.map((row) => row.size), y: d.sizes.map((row) => unit * row.pixels),
      name: timed.length ? `by pixels, from ${timed[0].size} px` : "by pixels", line: { color: c.soft, dash: "dot" }, ...under });
    const ends = [d.sizes[0].size / 1.12, d.sizes[d.sizes.length - 1].size * 1.12].map(Math.log10);
    const sides = { type: "log", range: ends, tickvals: d.sizes.map((row) => row.size), ticktext: d.sizes.map((row) => String(row.size)) };
    return { data: [best, ...points(mine, c, (t) => [size(t), t.score]), measured, law], layout: { height: 620,
      grid: { rows: 2, columns: 1, pattern: "independent" }, xaxis: axis("", sides), xaxis2: axis("side of the images, px", sides),
      yaxis: axis(`best ${d.monitor.label}`, { range: scoreRange(d, mine.map((t) => t.score)) }),
      yaxis2: axis("seconds an epoch", { rangemode: "tozero" }) } };
  },

  parallel(d, shown, c) {
    const last = d.dimensions.length, mine = searched(shown), scored = mine.filter((t) => isNumber(t.objective));
    const [low, high] = [quantile(scored.map((t) => t.objective), 0), quantile(scored.map((t) => t.objective), 0.97)];
    const order = [...scored].sort((a, b) => a.objective - b.objective); // the best first; each layer holds ranks of its own
    const at = (t) => {
      const rows = d.dimensions.flatMap((dimension, x) => (dimension.name in t.params ? [[x, unit(dimension, t.params[dimension.name])]] : []));
      return isNumber(t.objective) ? [...rows, [last, 1 - Math.min(1, (t.objective - low) / (high - low || 1))]] : rows;
    };
    const bundle = (name, trials, line) => {
      const path = trials.flatMap((t) => [...at(t).map(([x, y]) => [x, y, t]), [null, null, t]]);
      return { type: "scatter", mode: "lines+markers", name, x: path.map((p) => p[0]), y: path.map((p) => p[1]), line,
        customdata: path.map((p) => p[2].label), text: path.map((p) => hover(p[2])), hovertemplate: "%{text}<extra></extra>",
        marker: { size: 4, color: line.color }, opacity: mine.length > 60 ? 0.55 : 0.9 };
    };
    const lost = mine.filter((t) => !isNumber(t.objective)), data = [];
    if (lost.length) data.push(bundle(`no ${d.monitor.label}`, lost, { color: c.soft, width: 1, dash: "dot" }));
    const ends = [1, 0.5, 0.25, 0.1, 0.03, 0].map((share) => Math.ceil(share * order.length));
    for (let layer = 0; layer < 5; layer++) {
      const [from, to] = [ends[layer + 1], ends[layer]], name = to - from > 1 ? `rank ${from + 1} to ${to}` : `rank ${to}`;
      const line = { color: mix(c.high, c.low, 0.1 + 0.225 * layer), width: 0.7 + 0.35 * layer };
      if (to > from) data.push(bundle(name, order.slice(from, to), line));
    }
    const shapes = [...d.dimensions.keys(), last].map((x) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, line: { color: c.soft, width: 1 } }));
    const label = (x, y, text) => ({ x, y, text: plain(text), showarrow: false, yanchor: y > 0.5 ? "bottom" : "top", font: { size: 11, color: c.soft } });
    const marks = d.dimensions.flatMap((dimension, x) => (dimension.choices
      ? dimension.choices.map((choice, i) => ({ ...label(x, unit(dimension, choice), choice), xanchor: "left", yanchor: "middle", xshift: 6 }))
      : [label(x, 0, short(dimension.low)), label(x, 1, short(dimension.high))]));
    return { data, layout: { shapes, annotations: [...marks, label(last, 0, `${(d.monitor.higher ? -high : high).toFixed(3)} or worse`),
      label(last, 1, (d.monitor.higher ? -low : low).toFixed(3))], height: 440,
      yaxis: { visible: false, range: [-0.1, 1.1] }, xaxis: { showgrid: false, tickvals: [...shapes.keys()], range: [-0.35, last + 0.35],
        ticktext: [...d.dimensions.map((dimension) => plain(dimension.name)), `best ${d.monitor.label}`], showline: false } } };
  },

  slots(d, shown, c) {
    const [unit, long] = d.slots.unit;
    const names = new Map(shown.map((t) => [t.label, t])), spans = d.slots.spans.filter((s) => names.has(s[0]));
    const bars = (name, from, to, color, text) => ({ type: "bar", orientation: "h", name, base: spans.map((s) => s[from] / long),
      x: spans.map((s) => (s[to] - s[from]) / long), y: spans.map((s) => `slot ${s[1] + 1}`), customdata: spans.map((s) => s[0]),
      marker: { color, line: { color: c.panel, width: 1 } }, text: text ? spans.map((s) => plain(s[0])) : undefined,
      textposition: text ? "inside" : "none", insidetextanchor: "middle", textangle: 0, insidetextfont: { color: c.panel },
      hovertemplate: `trial %{customdata}: ${name} %{x:.2f} ${unit}<extra></extra>` });
    const shapes = d.slots.downtime.map(([a, b]) => ({ type: "rect", x0: a / long, x1: b / long, yref: "paper", y0: 0, y1: 1,
      fillcolor: c.line, opacity: 0.6, line: { width: 0 }, label: { text: "not running", font: { size: 11, color: c.soft } } }));
    const lanes = [...Array(d.slots.lanes).keys()].map((lane) => `slot ${lane + 1}`);
    const data = [bars("start-up", 2, 3, c.pruned, false), bars("training and validation", 3, 4, c.complete, true)];
    return { data, layout: { shapes, barmode: "overlay", bargap: 0.25, xaxis: axis(`${unit} since the search began`), height: 170 + 34 * lanes.length,
      yaxis: { type: "category", categoryorder: "array", categoryarray: lanes.reverse(), showgrid: false }, uniformtext: { mode: "hide", minsize: 9 } } };
  },

  confirmation(d, shown, c) {
    const items = [...d.standings].filter((i) => i.scores.length).reverse(), name = (i) => `trial ${plain(i.trial)}` + (i.handMade ? " (hand-made)" : "");
    const dots = (title, marker, rows) => ({ type: "scatter", mode: "markers", name: title, marker, x: rows.map((r) => r[1]), y: rows.map((r) => name(r[0])),
      customdata: rows.map((r) => r[0].trial), hovertemplate: `${title}: %{x:.4f}<extra></extra>` });
    const data = [
      dots("a repeat", { color: c.complete, size: 9, opacity: 0.7 }, items.flatMap((i) => i.scores.map((score) => [i, score]))),
      dots("mean of repeats", { color: c.ink, symbol: "line-ns-open", size: 22, line: { width: 2.5 } }, items.map((i) => [i, i.mean])),
      dots("search score", { color: c.pruned, symbol: "diamond-open", size: 10, line: { width: 2 } }, items.map((i) => [i, i.search])),
    ];
    return { data, layout: { xaxis: axis(`best ${d.monitor.label}`), yaxis: { type: "category" }, height: 150 + 46 * items.length } };
  },

  recommendation(d, shown, c) {
    const items = [...d.assessed].reverse(), name = (i) => `trial ${plain(i.trial)}`;
    const span = { type: "scatter", mode: "lines", showlegend: false, hoverinfo: "skip", line: { color: c.line, width: 2 }, x: [], y: [] };
    for (const i of items) {
      const ends = [i.observed, i.completed, i.modelled].filter((v) => v !== null);
      span.x.push(Math.min(...ends), Math.max(...ends), null);
      span.y.push(name(i), name(i), null);
    }
    const dots = (title, value, marker) => ({ type: "scatter", mode: "markers", name: title, marker, x: items.map((i) => i[value]), y: items.map(name),
      customdata: items.map((i) => i.trial), hovertemplate: `${title}: %{x:.4f}<extra></extra>` });
    const data = [span, dots("observed", "observed", { color: c.pruned, symbol: "circle-open", size: 9, line: { width: 2 } }),
      dots("at full length", "completed", { color: c.soft, symbol: "triangle-right-open", size: 10, line: { width: 2 } }),
      dots("by the model", "modelled", { color: c.complete, symbol: "diamond-open", size: 10, line: { width: 2 } })];
    return { data, layout: { xaxis: axis(`best ${d.monitor.label}`), yaxis: { type: "category" }, height: 150 + 32 * items.length } };
  },

  trainings(d, shown, c) {
    const splits = [...new Set(d.trainings.map((t) => t.split))], recall = d.columns[d.recall];
    const longest = Math.max(...d.trainings.map((t) => t.rows.epoch.length));
    const layout = { grid: { rows: splits.length, columns: 2, pattern: "independent" }, height: 90 + 270 * splits.length };
    const data = splits.flatMap((split, row) => ["val_loss", recall].flatMap((value, side) => {
      const index = 2 * row + side, end = index ? String(index + 1) : "";
      layout["xaxis" + end] = countAxis(row === splits.length - 1 ? "epoch" : "", longest);
      layout["yaxis" + end] = axis(side ? `${d.positive} recall` : `${split}: val loss`, side ? { range: [-0.04, 1.04] } : {});
      return d.trainings.filter((t) => t.split === split).map((t) => {
        const winner = t.title.startsWith("winner"), further = t.title.includes("seed");
        return { type: "scatter", mode: "lines+markers", name: plain(t.title), legendgroup: t.title, showlegend: index === 0, opacity: further ? 0.5 : 1,
          x: t.rows.epoch, y: t.rows[value], xaxis: "x" + end, yaxis: "y" + end, hovertemplate: `${plain(t.title)}, epoch %{x}: %{y:.4f}<extra></extra>`,
          line: { color: winner ? c.complete : c.pruned, dash: winner ? "solid" : "dash", width: 1.8 }, marker: { size: 4, symbol: winner ? "circle" : "square" } };
      });
    }));
    return { data, layout };
  },

  trial(d, t, c) { // the dialog's own: losses on the left, recalls on the right
    const x = t.rows.map((row) => row[0]);
    const line = (name, at, side, dash, color) => ({ type: "scatter", mode: "lines+markers", name: plain(name), x, y: t.rows.map((row) => row[at]),
      xaxis: side ? "x2" : "x", yaxis: side ? "y2" : "y", line: { dash, color, width: 1.8 }, marker: { size: 4 } });
    const recalls = d.columns.map((name, at) => [name, at]).filter(([name]) => name.startsWith("val_recall_"));
    const data = [line("val loss", column(d, "val_loss"), 0, "solid", c.complete), line("train loss (weighted)", column(d, "train_loss"), 0, "dot", c.soft),
      ...recalls.map(([name, at], i) => line(name.replace("val_recall_", "recall "), at, 1, at === d.recall ? "solid" : DASHES[1 + (i % 3)],
        at === d.recall ? c.diverged : c.soft))];
    return { data, layout: { grid: { rows: 1, columns: 2, pattern: "independent" }, height: 330, xaxis: countAxis("epoch", x.length), xaxis2: countAxis("epoch", x.length),
      yaxis: axis("loss"), yaxis2: axis("recall", { range: [-0.04, 1.04] }) } };
  },
};

function unit(dimension, value) { // a value's place in its range, 0 to 1
  if (dimension.choices) return (dimension.choices.indexOf(String(value)) + 0.5) / dimension.choices.length;
  const [low, high, v] = dimension.log ? [dimension.low, dimension.high, value].map(Math.log) : [dimension.low, dimension.high, value];
  return (v - low) / (high - low || 1);
}
