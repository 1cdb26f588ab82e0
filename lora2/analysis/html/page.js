"use strict";
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  // Charts: a spec's blanks are filled with the view's words and the theme's colours, then Vega-Lite draws it.
  const charts = JSON.parse(document.getElementById("chart-data").textContent);
  const figures = [...document.querySelectorAll("figure[data-chart]")];
  const probe = document.getElementById("probe");
  const drawn = new Map();

  function colour(name) {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  }

  function filled(part, words) {
    if (typeof part === "string" && part.startsWith("@--")) return colour(part.slice(1));
    if (typeof part === "string" && part.startsWith("@")) return filled(words[part.slice(1)], words);
    if (Array.isArray(part)) return part.map((each) => filled(each, words));
    if (part === null || typeof part !== "object") return part;
    return Object.fromEntries(Object.entries(part).map(([key, each]) => [key, filled(each, words)]));
  }

  function config(width) {
    const ink = colour("--ink");
    const text = { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500 };
    return {
      background: "transparent",
      font: getComputedStyle(document.body).fontFamily,
      view: { stroke: null },
      axis: { ...text, gridColor: colour("--line"), domainColor: colour("--muted"), tickColor: colour("--muted") },
      legend: {
        ...text,
        labelLimit: 260,
        columns: Math.max(1, Math.floor(width / 170)),
        symbolBaseFillColor: ink,
        symbolBaseStrokeColor: ink,
      },
    };
  }

  async function draw(figure) {
    const chart = charts[figure.dataset.chart];
    const key = [...figure.querySelectorAll("select")].map((select) => select.value).join("|");
    const places = [...figure.querySelectorAll(".plot")];
    const plots = chart.views[key];
    for (const [index, place] of places.entries()) {
      const plot = plots[index];
      const canvas = place.querySelector(".canvas");
      drawn.get(canvas)?.finalize();
      drawn.delete(canvas);
      canvas.replaceChildren();
      place.hidden = !plot;
      if (!plot) continue;
      place.querySelector(".caption").textContent = plot.caption;
      if (!plot.rows.length) continue;
      const spec = { ...filled(chart.specs[index], plot.words), data: { values: plot.rows }, description: plot.caption };
      const look = config(place.clientWidth); // the canvas itself has no width while it is empty
      const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, config: look };
      drawn.set(canvas, await window.vegaEmbed(canvas, spec, options));
    }
  }

  // One drawing after the other: a second choice must not be overtaken by the first.
  let queue = Promise.resolve();
  function redraw(some) {
    for (const figure of some) queue = queue.then(() => draw(figure));
  }

  for (const figure of figures) {
    figure.addEventListener("change", () => redraw([figure]));
  }

  // Theme: the system's until the reader chooses.
  const button = document.getElementById("theme");
  const stored = (value) => {
    try {
      if (value) localStorage.setItem("theme", value);
      return localStorage.getItem("theme");
    } catch {
      return null; // a page opened from a file may have no storage
    }
  };

  function apply(theme) {
    if (theme) root.dataset.theme = theme;
    const dark = theme ? theme === "dark" : system.matches;
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${dark ? "light" : "dark"} theme`);
    redraw(figures);
  }

  button.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
    const theme = dark ? "light" : "dark";
    stored(theme);
    apply(theme);
  });
  system.addEventListener("change", () => apply(root.dataset.theme));

  // Tables: a header's button sorts, the second press turns the order round, the third restores it.
  const opposite = { ascending: "descending", descending: "ascending" };

  function compare(left, right) {
    const [a, b] = [Number(left), Number(right)];
    return Number.isNaN(a) || Number.isNaN(b) ? left.localeCompare(right) : a - b;
  }

  function sort(rows, column, order) {
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => row.cells[column].dataset.sort;
    const known = rows.filter((row) => key(row) !== undefined);
    const missing = rows.filter((row) => key(row) === undefined);
    return [...known.sort((a, b) => sign * compare(key(a), key(b))), ...missing];
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    for (const [column, head] of heads.entries()) {
      head.querySelector("button").addEventListener("click", () => {
        const first = head.classList.contains("number") ? "descending" : "ascending";
        const now = head.getAttribute("aria-sort");
        const next = now === null ? first : now === first ? opposite[first] : null;
        for (const each of heads) each.removeAttribute("aria-sort");
        if (next) head.setAttribute("aria-sort", next);
        body.append(...(next ? sort([...rows], column, next) : rows));
      });
    }
  }

  // A table that is wider than its place says so, until its end is seen.
  const hints = new ResizeObserver((entries) => entries.forEach(({ target }) => hint(target)));

  function hint(box) {
    const more = box.scrollWidth - box.clientWidth - box.scrollLeft > 1;
    box.classList.toggle("cut", more);
    const text = box.previousElementSibling;
    if (text?.matches(".hint")) text.hidden = box.scrollWidth <= box.clientWidth + 1;
  }

  for (const box of document.querySelectorAll(".scroll")) {
    hints.observe(box);
    box.addEventListener("scroll", () => hint(box), { passive: true });
  }

  // Records: a link to one opens it; the search field hides the others.
  const settings = [...document.querySelectorAll("details.setting")];
  const filter = document.getElementById("filter");

  function narrow() {
    const wanted = filter.value.toLowerCase().split(/\s+/);
    for (const each of settings) {
      const title = each.querySelector("summary").textContent.toLowerCase();
      each.hidden = !wanted.every((word) => title.includes(word));
    }
  }

  function reveal() {
    const target = document.getElementById(location.hash.slice(1));
    if (!target?.matches("details.setting")) return;
    target.hidden = false;
    target.open = true;
    target.scrollIntoView();
    target.querySelector("summary").focus({ preventScroll: true });
  }

  filter?.addEventListener("input", narrow);
  addEventListener("hashchange", reveal);
  reveal();
  apply(stored());
})();
