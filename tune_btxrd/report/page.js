// The page itself: unpacks Plotly, draws each picture when it comes near the screen, filters by state, opens a trial.
"use strict";

(async function main() {
  const d = JSON.parse(document.getElementById("data-json").textContent);
  for (const [state, words] of Object.entries(d.states)) STATES[state].words = words;
  const byLabel = new Map(d.trials.map((t) => [t.label, t]));
  const dialog = document.getElementById("trial"), dark = matchMedia("(prefers-color-scheme: dark)");
  const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

  async function loadPlotly() {
    const packed = Uint8Array.from(atob(document.getElementById("plotly-gzip").textContent), (char) => char.charCodeAt(0));
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(unpacked).text();
    document.head.append(script);
  }

  function colours() {
    const style = getComputedStyle(document.documentElement), value = (name) => style.getPropertyValue("--" + name).trim();
    const names = ["ink", "soft", "line", "panel", "tint", ...Object.keys(STATES)];
    return { ...Object.fromEntries(names.map((name) => [name, value(name)])), low: value("ramp-low"), mid: value("ramp-mid"), high: value("ramp-high") };
  }

  function dressed(layout, c) {
    const base = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, sans-serif", size: 13, color: c.ink },
      margin: { l: 70, r: 20, t: 44, b: 54 }, hovermode: "closest", legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
      hoverlabel: { bgcolor: c.panel, bordercolor: c.line, font: { color: c.ink }, align: "left" }, modebar: { color: c.soft, bgcolor: "rgba(0,0,0,0)", activecolor: c.ink },
      height: 380, colorway: [c.complete, c.pruned, c.diverged, c.failed, c.running] };
    const whole = { ...base, ...layout };
    if ((layout.annotations || []).some((note) => note.text === "rung")) whole.legend = { ...base.legend, y: 1.07 };
    const axes = Object.keys(whole).filter((name) => /^[xy]axis\d*$/.test(name));
    for (const name of axes) whole[name] = { gridcolor: c.line, linecolor: c.soft, zeroline: false, automargin: true, ticks: "outside", tickfont: { size: 12 }, tickcolor: c.line, ...whole[name] };
    return whole;
  }

  async function draw(place, made, c) {
    await Plotly.react(place, made.data, dressed(made.layout, c), CONFIG);
    if (!place.dataset.clicks) {
      place.dataset.clicks = "on";
      place.on("plotly_click", (event) => {
        const label = event.points.map((point) => point.customdata).find((value) => byLabel.has(value));
        if (label !== undefined) open(label);
      });
    }
  }

  const shownStates = () => new Set([...document.querySelectorAll("input[name=state]:checked")].map((box) => box.value));
  const shownTrials = () => d.trials.filter((t) => shownStates().has(t.state));

  async function drawFigure(figure) {
    await draw(figure.querySelector(".chart"), CHARTS[figure.dataset.chart](d, shownTrials(), colours()), colours());
    figure.classList.add("drawn");
  }

  function filter() {
    const states = shownStates();
    for (const row of document.querySelectorAll("tr[data-state]")) row.hidden = !states.has(row.dataset.state);
    redraw();
  }

  const redraw = () => Promise.all([...document.querySelectorAll("figure.drawn")].map(drawFigure));

  function element(tag, text, parent, attributes = {}) {
    const made = document.createElement(tag);
    made.textContent = text; // never markup: names may hold anything
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    parent.append(made);
    return made;
  }

  function terms(pairs, parent) {
    const list = element("dl", "", parent);
    for (const [name, value] of pairs) { element("dt", name, list); element("dd", value, list); }
  }

  function epochTable(t, parent) {
    const whole = element("details", "", parent);
    element("summary", `All ${t.rows.length} epochs`, whole);
    const table = element("table", "", element("div", "", whole, { class: "scroll" })), head = element("tr", "", element("thead", "", table));
    for (const name of d.columns) element("th", name.replace("val_recall_", "recall ").replaceAll("_", " "), head, { scope: "col" });
    const body = element("tbody", "", table);
    for (const row of t.rows) {
      const line = element("tr", "", body);
      for (const [at, value] of row.entries()) element("td", value === null ? (/loss|objective/.test(d.columns[at]) ? "not finite" : "-") : at ? value.toFixed(4) : value, line);
    }
  }

  function command(t) {
    return t.role === "search" ? `python -m tune_btxrd trial ${d.name} ${t.number}` : `python -m tune_btxrd trial ${d.name} ${t.label}`;
  }

  async function open(label) {
    const t = byLabel.get(label), body = document.getElementById("trial-body");
    document.getElementById("trial-title").textContent = `Trial ${t.label}`;
    body.replaceChildren();
    const best = isNumber(t.objective) ? `best ${t.shown} at epoch ${t.bestEpoch}` : `no ${d.monitor.label}`;
    element("p", `${STATES[t.state].words}: ${t.reason || "it has not ended"}; ${best}.`, body);
    for (const visit of t.visits) element("p", `Rung at ${visit}`, body, { class: "note" });
    const chart = t.rows.length ? element("div", "", body, { class: "chart", role: "img", "aria-label": `Curves of trial ${t.label}: ${best}` }) : null;
    element("h3", "Searched", body);
    terms(Object.entries(t.params).map(([name, value]) => [name, isNumber(value) ? short(value) : String(value)]), body);
    const whole = element("details", "", body);
    element("summary", "Complete config", whole);
    terms(Object.entries({ ...d.shared, ...t.config }).map(([name, value]) => [name, String(value)]), whole);
    if (t.rows.length) epochTable(t, body);
    element("h3", "Reproduce", body);
    element("pre", command(t), body);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    if (chart) await draw(chart, CHARTS.trial(d, t, colours()), colours());
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-open]");
    if (button) open(button.dataset.open);
    if (event.target === dialog || event.target.closest("dialog .close")) dialog.close();
  });
  document.querySelectorAll("input[name=state]").forEach((box) => box.addEventListener("change", filter));
  dark.addEventListener("change", redraw);

  document.documentElement.classList.add("live");
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve))); // words and numbers first
  try {
    await loadPlotly();
  } catch (error) { // an old browser: the still pictures stay, everything else works
    for (const figure of document.querySelectorAll("figure[data-chart] .chart")) figure.hidden = true;
    document.documentElement.classList.add("stills");
    document.documentElement.dataset.ready = "stills";
    return;
  }
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((item) => item.isIntersecting)) {
      near.unobserve(entry.target);
      drawFigure(entry.target);
    }
  }, { rootMargin: "500px" });
  document.querySelectorAll("figure[data-chart]").forEach((figure) => near.observe(figure));
  document.documentElement.dataset.ready = "live";
})();
