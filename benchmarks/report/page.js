"use strict";
// What the page shows and how it is chosen. Names reach the document as text only, never as HTML.
const stemgmd = {
  data: JSON.parse(document.getElementById("data").textContent),
  state: { view: "", metric: "", over: "all", groups: new Set(), sort: { key: "all", down: true } },
};
stemgmd.state.view = stemgmd.data.boards[0].view;
stemgmd.state.metric = stemgmd.data.boards[0].headline;
stemgmd.data.groups.forEach((group) => stemgmd.state.groups.add(group.id));

/** An element with attributes (null: none; on*: listeners) and children, strings as text. */
stemgmd.element = function (tag, attributes, ...children) {
  const drawn = ["svg", "g", "line", "rect", "circle", "path", "text", "title"].includes(tag);
  const node = drawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
};

/** Numbers travel as JSON does not know them: "inf", "-inf", and null for what is not defined. */
stemgmd.value = (x) => (x === "inf" ? Infinity : x === "-inf" ? -Infinity : x === null || x === undefined ? NaN : x);

stemgmd.number = function (x, digits) {
  const value = stemgmd.value(x);
  if (Number.isNaN(value)) return "–";
  const text = Number.isFinite(value) ? Math.abs(value).toFixed(digits) : "∞";
  return value < 0 && /[^0.]/.test(text) ? "−" + text : text;
};

stemgmd.board = () => stemgmd.data.boards.find((board) => board.view === stemgmd.state.view);
/** Pages of earlier versions have one set of captions for all boards. */
stemgmd.captions = () => stemgmd.board().captions || stemgmd.data.captions;
stemgmd.metric = () => stemgmd.data.metrics.find((metric) => metric.id === stemgmd.state.metric);
stemgmd.rows = () => stemgmd.board().rows.filter((row) => stemgmd.state.groups.has(row.group));
stemgmd.system = (id) => stemgmd.data.systems.find((system) => system.id === id);
/** [value, low, high, pairs, performances, undefined, infinite] or undefined. */
stemgmd.estimate = (row, metric, over) => (row.summaries[metric] || {})[over];

{
  const { data, state, element, number, value } = stemgmd;
  const headline = () => data.metrics.find((metric) => metric.id === stemgmd.board().headline);

  const pooled = (metric, over) => (row) => value((stemgmd.estimate(row, metric, over) || [null])[0]);
  const system = (field) => (row) => stemgmd.system(row.system)[field];

  function interval(row, metric, over) {
    const found = stemgmd.estimate(row, metric.id, over);
    if (!found) return ["–"];
    const few = found[4] < data.few ? "†" : "";
    const bounds = Number.isNaN(value(found[1])) ? "" : ` [${number(found[1], metric.digits)}, ${number(found[2], metric.digits)}]${few}`;
    return [element("strong", {}, number(found[0], metric.digits)), element("small", {}, bounds)];
  }

  function short(row, metric, over) {
    const found = stemgmd.estimate(row, metric.id, over);
    return [found ? number(found[0], metric.digits) : "–"];
  }

  /** What hovering a value tells: interval and counts. */
  function told(row, metric, over) {
    const found = stemgmd.estimate(row, metric.id, over);
    if (!found) return null;
    const bounds = `95 %: ${number(found[1], metric.digits)} to ${number(found[2], metric.digits)}`;
    const odd = (found[5] ? `, ${found[5]} undefined` : "") + (found[6] ? `, ${found[6]} infinite` : "");
    return `${bounds}; ${found[3]} pairs of ${found[4]} performances${odd}`;
  }

  const ofMetric = (metric, over, label, show) => ({
    key: metric === headline() ? over : metric.id,
    label,
    value: pooled(metric.id, over),
    show: (row) => show(row, metric, over),
    title: (row) => told(row, metric, over),
    help: metric.meaning + (over === "all" ? ", over all pairs" : ""),
  });
  const difference = (row) => {
    const found = row.against;
    if (!found) return [row.rank === 1 ? "best" : "–"];
    return [number(found[0], headline().digits), element("small", {}, ` [${number(found[1], headline().digits)}, ${number(found[2], headline().digits)}]`)];
  };
  const shown = () => data.metrics.filter((metric) => stemgmd.board().metrics.includes(metric.id));
  const columns = () => [
    { key: "rank", label: "#", value: (row) => row.rank, show: (row) => [String(row.rank)] },
    { key: "name", label: "system", kind: "name", value: system("name"), show: (row) => [system("name")(row)] },
    ofMetric(headline(), "all", `${headline().label}, all pairs`, interval),
    ofMetric(headline(), "macro", "mean over stems", interval),
    { key: "difference", label: `Δ to ${data.against || "best"}`, value: (row) => (row.against ? value(row.against[0]) : 0), show: difference, help: `mean paired difference to ${data.against || "the best of the group"}` },
    { key: "p", label: "p", value: (row) => (row.p === null ? 2 : row.p), show: (row) => [row.p === null ? "" : row.p < 0.001 ? "< 0.001" : row.p.toFixed(3)], help: "sign-flip permutation test over performances, Holm-corrected" },
    ...data.stems.map((stem) => ofMetric(headline(), stem.id, stem.short, short)),
    ...shown().filter((metric) => metric !== headline()).map((metric) => ofMetric(metric, "all", metric.label, short)),
    { key: "speed", label: "× real time", value: (row) => value(system("speed")(row)), show: (row) => [stemgmd.ratio(system("speed")(row))], title: (row) => system("machine")(row) },
    { key: "parameters", label: "parameters", value: system("parameters"), show: (row) => [system("parameters")(row).toLocaleString("en")] },
    { key: "inputs", label: "given", kind: "text", value: (row) => system("inputs")(row).join(" + "), show: (row) => [system("inputs")(row).join(" + ")] },
    { key: "licence", label: "licence", kind: "text", value: system("licence"), show: (row) => [system("licence")(row)] },
    { key: "trained", label: "trained on", kind: "long", value: system("trained_on"), show: (row) => [system("trained_on")(row)] },
  ];

  stemgmd.ratio = (x) => (x === null ? "–" : x >= 100 ? Math.round(x).toLocaleString("en") : x.toPrecision(2));

  function compare(column) {
    const sign = state.sort.down ? -1 : 1;
    return (a, b) => {
      const [x, y] = [column.value(a), column.value(b)];
      if (typeof x === "string") return sign * x.localeCompare(y);
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return x === y ? a.rank - b.rank : sign * (x < y ? -1 : 1);
    };
  }

  function sortBy(column) {
    const same = state.sort.key === column.key;
    state.sort = { key: column.key, down: same ? !state.sort.down : !column.kind && column.key !== "rank" };
    drawBoard();
    document.querySelector(`#board th[data-key="${column.key}"] button`).focus();
  }

  function header(column) {
    const sorted = state.sort.key === column.key;
    const order = sorted ? (state.sort.down ? "descending" : "ascending") : "none";
    const button = element("button", { type: "button", title: column.help, onclick: () => sortBy(column) }, column.label);
    return element("th", { scope: "col", class: column.kind, "aria-sort": order, "data-key": column.key }, button);
  }

  function line(row) {
    const cells = columns().map((column) => {
      const attributes = { class: column.kind === "name" ? `name ${row.group}` : column.kind, title: column.title && column.title(row) };
      if (column.kind === "name") attributes.scope = "row";
      return element(column.kind === "name" ? "th" : "td", attributes, column.show(row));
    });
    return element("tr", { "data-system": row.system }, cells);
  }

  function drawBoard() {
    const column = columns().find((candidate) => candidate.key === state.sort.key);
    const bodies = data.groups.map((group) => {
      const rows = stemgmd.rows().filter((row) => row.group === group.id).sort(compare(column));
      if (!rows.length) return null;
      const title = element("tr", { class: "group" }, element("th", { colspan: columns().length, scope: "rowgroup" }, element("span", {}, group.label)));
      return element("tbody", {}, title, rows.map(line));
    });
    const table = document.getElementById("board");
    table.replaceChildren(element("thead", {}, element("tr", {}, columns().map(header))), ...bodies.filter(Boolean));
    document.getElementById("board-caption").textContent = `${stemgmd.captions().board} ${stemgmd.board().data}`;
    document.getElementById("board-columns").textContent = stemgmd.captions().columns;
  }

  function radio(name, id, label, chosen, type = "radio") {
    const change = (event) => {
      if (type === "checkbox") state.groups[event.target.checked ? "add" : "delete"](id);
      else state[name] = id;
      stemgmd.draw();
    };
    const input = element("input", { type, name, value: id, onchange: change });
    input.checked = chosen;
    input.disabled = chosen === null;
    return element("label", { title: chosen === null ? "no records" : null }, input, element("span", {}, label));
  }

  function choice(name, label, options) {
    const select = element("select", { name, onchange: (event) => { state[name] = event.target.value; stemgmd.draw(); } },
      options.map(([id, text]) => element("option", { value: id }, text)));
    select.value = state[name];
    return element("label", {}, element("span", { class: "soft" }, label), select);
  }

  function drawControls() {
    const views = data.boards.map((board) => radio("view", board.view, board.place, board.view === state.view));
    const groups = data.groups.filter((group) => data.boards.some((board) => board.rows.some((row) => row.group === group.id)));
    const overs = [["all", "all pairs"], ["macro", "mean over stems"], ...data.stems.map((stem) => [stem.id, stem.id])];
    document.getElementById("controls").replaceChildren(
      element("fieldset", {}, element("legend", {}, "Data"), views),
      element("fieldset", {}, element("legend", {}, "Systems"), groups.map((group) => radio("groups", group.id, group.id, true, "checkbox"))),
      choice("metric", "Metric", data.metrics.map((metric) => [metric.id, metric.label])),
      choice("over", "over", overs),
    );
    document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
  }

  function plain(header, rows, nText) {
    const cell = (tag) => (text, i) => element(tag, { class: i < nText ? "text" : null }, text);
    return [element("thead", {}, element("tr", {}, header.map(cell("th")))), element("tbody", {}, rows.map((row) => element("tr", {}, row.map(cell("td")))))];
  }

  function card(info) {
    const row = stemgmd.board().rows.find((candidate) => candidate.system === info.id);
    const facts = [
      ["given", info.inputs.join(" + ")], ["trained on", info.trained_on], ["kits seen", info.kits_seen.join(", ") || "none"],
      ["parameters", info.parameters.toLocaleString("en")], ["licence", info.licence], ["revision", info.revision],
      ["machine", info.machine || "not measured"], ["speed", info.speed === null ? "not measured" : `${stemgmd.ratio(info.speed)} times real time`],
      ["peak memory", info.memory === null ? "not measured" : `${Math.round(info.memory / 2 ** 20).toLocaleString("en")} MiB`],
    ];
    // A link only where the address is one: the field comes from whoever made the system.
    if (/^https?:\/\//.test(info.url)) facts.push(["address", element("a", { href: info.url, rel: "noopener noreferrer" }, info.url)]);
    const kits = row && Object.entries(row.kits).map(([kit, stems]) => [kit, ...[...data.stems.map((stem) => stem.id), "all"].map((key) => number(stems[key], headline().digits))]);
    const table = row && kits.length > 0 && element("details", {}, element("summary", {}, `${headline().label} by kit and stem, ${stemgmd.board().place}`),
      element("div", { class: "scroll" }, element("table", {}, plain(["kit", ...data.stems.map((stem) => stem.short), "all"], kits, 1))));
    return element("article", { class: "card" }, element("h3", { class: info.group }, info.name), element("p", {}, info.summary),
      element("dl", {}, facts.map(([name, text]) => [element("dt", {}, name), element("dd", {}, text)])), table || null);
  }

  stemgmd.draw = function () {
    drawBoard();
    stemgmd.drawCharts();
    document.getElementById("cards").replaceChildren(...data.systems.filter((info) => state.groups.has(info.group)).map(card));
  };

  stemgmd.start = function () {
    drawControls();
    document.getElementById("published").replaceChildren(...plain(data.published.header, data.published.rows, 2));
    document.getElementById("published-caption").textContent = data.published.caption;
    stemgmd.draw();
    stemgmd.drawClips();
    let width = window.innerWidth;
    window.addEventListener("resize", () => {
      if (window.innerWidth !== width) stemgmd.drawCharts();
      width = window.innerWidth;
    });
  };
}
