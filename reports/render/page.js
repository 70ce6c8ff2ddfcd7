"use strict";
// One page's behaviour: filters over figures and tables, charts, sorting, long tables page by page. Reads only #data.
(async () => {
const root = document.documentElement;
const all = (query, within = document) => [...within.querySelectorAll(query)];
const made = (tag, attributes = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
};
const unpacked = async text => {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};
const DATA = await unpacked(document.getElementById("data").textContent);
const MISSING = "\u2013", LINES = 50;

// ---- what is chosen: of each facet the number of a value, or -1 for all
const form = document.getElementById("filters");
const picks = all("select[data-facet]", form);
const chosen = DATA.facets.map(() => -1);
const fits = codes => chosen.every((value, n) => value < 0 || codes[n] === undefined || codes[n] < 0 || codes[n] === value);
const lineFits = (facets, line) => chosen.every((value, n) =>
  value < 0 || !facets[n] || facets[n][line] < 0 || facets[n][line] === value);
const listeners = [];

// ---- sorting: missing values and sums stay at the end whichever way a column runs
const sortable = (table, order) => {
  const row = table.tHead.rows[table.tHead.rows.length - 1], heads = [...row.cells];
  heads.forEach((head, column) => {
    const button = made("button", { type: "button", textContent: head.textContent });
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      order(column, down);
    });
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
  });
};
const compared = (a, b, down) => {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  return down ? -order : order;
};
for (const table of all("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    if ("v" in cell.dataset) return cell.dataset.v === "" ? null : Number(cell.dataset.v);
    return cell.textContent === MISSING ? null : cell.textContent;
  };
  sortable(table, (column, down) => {
    const rows = [...body.rows].map(row => [row.classList.contains("whole"), value(row, column), row]);
    rows.sort(([s, a], [t, b]) => s - t || compared(a, b, down));
    body.append(...rows.map(([, , row]) => row));
  });
}
for (const button of all("[data-switch]")) {
  const table = button.nextElementSibling.querySelector("table");
  button.addEventListener("click", () => {
    const brief = table.classList.toggle("brief");
    button.setAttribute("aria-pressed", String(!brief));
  });
}

// ---- long tables
const tableOf = (caption, heads, brief) => {
  const row = made("tr", {}, ...heads.map(([text, numeric, meaning, main]) => {
    const head = made("th", { scope: "col", textContent: text, className: `${numeric ? "n" : ""}${main ? "" : " extra"}` });
    if (meaning) head.title = meaning;
    return head;
  }));
  const table = made("table", { className: brief ? "brief" : "" }, made("thead", {}, row), made("tbody"));
  table.setAttribute("aria-label", caption);
  const scroll = made("div", { className: "scroll table", tabIndex: 0 }, table);
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", caption);
  return [scroll, table];
};
for (const block of all("[data-table]")) {
  const data = DATA.tables[block.dataset.table];
  const caption = block.querySelector(".caption").firstChild.textContent.trim();
  const brief = data.heads.some(head => !head[3]);
  const [scroll, table] = tableOf(caption, data.heads, brief);
  const whole = new Set(data.whole || []);
  const sets = data.columns.map(column => ({ worse: new Set(column.w || []), missing: new Set(column.m || []) }));
  const every = Array.from({ length: data.lines }, (_, line) => line);
  let lines = every, page = 0, column = -1, down = false;
  const place = made("span", { className: "quiet" });
  const step = (text, by) => {
    const button = made("button", { type: "button", textContent: text });
    button.addEventListener("click", () => { page += by; show(); });
    return button;
  };
  const back = step("Back", -1), next = step("Next", 1);
  const show = () => {
    const pages = Math.max(1, Math.ceil(lines.length / LINES));
    page = Math.min(Math.max(page, 0), pages - 1);
    const shown = lines.slice(page * LINES, (page + 1) * LINES);
    table.tBodies[0].replaceChildren(...shown.map(line => made("tr", { className: whole.has(line) ? "whole" : "" },
      ...data.columns.map((each, n) => {
        const number = each.i[line], [, numeric, , main] = data.heads[n];
        const cell = made(n ? "td" : "th", { textContent: each.t[number] });
        if (!n) cell.scope = "row";
        cell.className = `${numeric ? "n" : ""}${sets[n].worse.has(number) ? " worse" : ""}${main ? "" : " extra"}`;
        return cell;
      }))));
    back.disabled = page === 0;
    next.disabled = page === pages - 1;
    place.textContent = lines.length ? `${page * LINES + 1} to ${page * LINES + shown.length} of ${lines.length}` : "none";
  };
  const order = () => {
    lines = every.filter(line => lineFits(data.facets, line));
    if (column >= 0) {
      const numbers = data.columns[column].i, missing = sets[column].missing;
      lines.sort((a, b) => whole.has(a) - whole.has(b) || missing.has(numbers[a]) - missing.has(numbers[b]) ||
        (down ? numbers[b] - numbers[a] : numbers[a] - numbers[b]));
    }
    page = 0;
    show();
    block.hidden = lines.length === 0;
  };
  sortable(table, (c, d) => { column = c; down = d; order(); });
  const row = made("div", { className: "pages" }, back, next, place);
  if (brief) {
    const all_ = made("button", { type: "button", textContent: `All ${data.heads.length} columns` });
    all_.setAttribute("aria-pressed", "false");
    all_.addEventListener("click", () => all_.setAttribute("aria-pressed", String(!table.classList.toggle("brief"))));
    row.append(all_);
  }
  block.append(row, scroll);
  order();
  listeners.push(order);
}

// ---- lines of the tables that are in the page
listeners.push(() => {
  for (const row of all("tr[data-f]")) row.hidden = !fits(row.dataset.f.split(",").map(text => text === "" ? -1 : Number(text)));
  for (const block of all(".filtered:not(.paged)")) {
    const rows = all("tbody tr", block);
    block.hidden = rows.length > 0 && rows.every(row => row.hidden);
  }
});

// ---- charts
const columnsFor = width => Math.max(1, Math.floor(width / 230));  // of a legend
const configFor = width => ({
  background: null, aria: false, font: "system-ui, sans-serif",
  axis: { labelColor: "var(--ink)", titleColor: "var(--ink)", gridColor: "var(--line)", domainColor: "var(--quiet)",
          tickColor: "var(--quiet)", labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
  legend: { labelColor: "var(--ink)", titleColor: "var(--quiet)", labelFontSize: 12, titleFontSize: 12, labelLimit: Math.max(120, width - 60),
            titleLimit: Math.max(120, width - 20), titleFontWeight: "normal", orient: "bottom", symbolLimit: 40, symbolStrokeWidth: 2, padding: 4, columns: columnsFor(width),
            layout: { bottom: { direction: columnsFor(width) < 4 ? "vertical" : "horizontal" } },  // two side by side would not fit
            symbolBaseStrokeColor: "var(--ink)", symbolBaseFillColor: "transparent" },
  header: { labelColor: "var(--ink)", labelFontSize: 12 }, view: { stroke: null }, text: { font: "system-ui, sans-serif" },
});
const linesOf = chart => {
  const names = Object.keys(chart.rows);
  chart.all = chart.all || Array.from({ length: chart.lines }, (_, line) =>
    Object.fromEntries(names.map(name => [name, chart.rows[name][line]])));
  return chart.all.filter((_, line) => lineFits(chart.facets, line));
};
const told = spec => {
  const found = [];
  const walk = node => {
    if (Array.isArray(node)) node.forEach(walk);
    else if (node && typeof node === "object") {
      for (const [key, value] of Object.entries(node)) key === "tooltip" && Array.isArray(value) ? found.push(value) : walk(value);
    }
  };
  walk(spec);
  return (found[0] || []).map(({ field, title }) => [field, title]);
};
const draw = async node => {
  const chart = DATA.charts[node.dataset.chart];
  if (chart.view || chart.drawing) return;
  chart.drawing = true;
  const width = node.clientWidth, spec = structuredClone(chart.spec);
  if (spec.facet) {
    const panel = 70 + (spec.spec.width.step || 30) * new Set(chart.rows.role).size;
    spec.columns = Math.max(1, Math.floor(width / panel));
  }
  const config = configFor(width);
  spec.data = { name: "rows" };
  spec.datasets = { ...spec.datasets, rows: linesOf(chart) };
  // One picture with one text: what Vega says of its marks, no reader of that text or of the table of numbers lacks.
  const drawing = made("div");
  drawing.setAttribute("aria-hidden", "true");
  node.append(drawing);
  const { view } = await vegaEmbed(drawing, spec, { actions: false, renderer: "svg", ast: true, logLevel: 1, config, tooltip: { disableDefaultStyle: true } });
  chart.view = view;
  chart.width = width;
};
// Vega follows a new width by itself, but not with the columns of a legend: a telephone that was turned.
const redraw = () => {
  for (const node of all("[data-chart]")) {
    const chart = DATA.charts[node.dataset.chart];
    if (!chart.view || columnsFor(chart.width) === columnsFor(node.clientWidth || root.clientWidth)) continue;
    chart.view.finalize();
    chart.view = chart.drawing = null;
    node.lastElementChild.remove();
    if (node.clientWidth) draw(node);  // others when they are shown
  }
};
let turned;
addEventListener("resize", () => { clearTimeout(turned); turned = setTimeout(redraw, 150); });
const refresh = async () => {
  for (const chart of Object.values(DATA.charts)) {
    if (chart.view) await chart.view.data("rows", linesOf(chart)).runAsync();
  }
};
const numbers = node => {
  const chart = DATA.charts[node.dataset.numbers], columns = told(chart.spec);
  const [scroll, table] = tableOf("Numbers of the figure", columns.map(([, title]) => [title, false, "", true]), false);
  const fill = () => table.tBodies[0].replaceChildren(...linesOf(chart).map(line =>
    made("tr", {}, ...columns.map(([field], n) => {
      const cell = made(n ? "td" : "th", { textContent: line[field] ?? MISSING });
      if (!n) cell.scope = "row";
      return cell;
    }))));
  node.append(scroll);
  node.addEventListener("toggle", () => { if (node.open) fill(); });
  listeners.push(() => { if (node.open) fill(); });
};
all("[data-numbers]").forEach(numbers);
for (const group of all(".figures")) {
  const figures = all("figure", group), pick = group.querySelector("[data-pick]");
  const show = async number => {
    figures.forEach((figure, n) => { figure.hidden = n !== number; });
    const node = figures[number].querySelector("[data-chart]");
    if (node) await draw(node);
  };
  const possible = figures.map(figure => {
    const chart = DATA.charts[figure.id];
    return () => !chart || linesOf(chart).length > 0;
  });
  const choose = () => {
    const able = possible.map(test => test());
    group.hidden = !able.some(Boolean);
    if (!pick) return;
    [...pick.options].forEach((option, n) => { option.disabled = option.hidden = !able[n]; });
    if (!able[pick.selectedIndex] && able.some(Boolean)) pick.selectedIndex = able.indexOf(true);
    show(pick.selectedIndex);
  };
  if (pick) pick.addEventListener("change", () => show(pick.selectedIndex));
  listeners.push(choose);
}

// ---- files that the page holds itself: of one who was sent the page alone, the others' links lead nowhere
for (const link of all("a[href]")) {
  const path = link.getAttribute("href"), text = DATA.files[path];
  if (text === undefined) continue;
  link.download = path.split("/").pop();
  link.title = `${path}, held by this page`;
  link.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    link.href = url;
    setTimeout(() => { link.setAttribute("href", path); URL.revokeObjectURL(url); }, 1000);
  });
}

// ---- filters
let applied = 0;
const apply = async () => {
  const mine = ++applied;
  root.dataset.ready = "no";
  picks.forEach(pick => {
    const number = DATA.facets.findIndex(([name]) => name === pick.dataset.facet);
    chosen[number] = pick.selectedIndex - 1;
  });
  listeners.forEach(listen => listen());
  await refresh();
  for (const section of all("main > section")) {
    const blocks = all(":scope > .filtered, :scope > .figures", section);
    section.classList.toggle("nothing", blocks.length > 0 && blocks.every(block => block.hidden));
  }
  const hidden = picks.filter(pick => pick.selectedIndex > 0).map(pick => pick.value);
  document.getElementById("said").textContent = hidden.length ? `Shown: ${hidden.join(", ")}` : "";
  if (mine === applied) root.dataset.ready = "yes";
};
if (picks.length) form.hidden = false;
form.addEventListener("change", apply);
form.addEventListener("reset", () => { root.dataset.ready = "no"; setTimeout(apply); });  // picks are reset after this
if (matchMedia("(max-width: 70rem)").matches) document.querySelector("nav details").open = false;
for (const group of all(".figures")) {
  const node = group.querySelector("figure:not([hidden]) [data-chart]");
  if (node) await draw(node);
}
root.dataset.ready = "yes";
})();
