// Charts as SVG, drawn at the width that there is, so that their text keeps its size.
{
  const { data, state, element, number, value } = stemgmd;
  const finite = (list) => list.filter(Number.isFinite);
  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
  const pen = document.createElement("canvas").getContext("2d");

  function textWidth(text, size = 12) {
    pen.font = `${size}px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif`;
    return pen.measureText(text).width;
  }

  /** Text cut to a width; the whole stands in the title. */
  function fit(text, width) {
    if (textWidth(text) <= width) return text;
    let n = text.length;
    while (n > 1 && textWidth(text.slice(0, n) + "…") > width) n -= 1;
    return text.slice(0, n) + "…";
  }

  /** Round steps that cover the values: {low, high, ticks, digits}. */
  function scale(values, n = 6) {
    const known = finite(values);
    let [low, high] = known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
    if (high - low < 1e-6) [low, high] = [low - 0.5, high + 0.5];
    const rough = (high - low) / n;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
    const first = Math.floor(low / step), last = Math.ceil(high / step);
    const ticks = Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
    return { low: first * step, high: last * step, ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }

  function marker(group, x, y, size = 6) {
    const at = { class: "mark" };
    if (group === "oracle") return element("path", { ...at, d: `M${x} ${y - size - 1}l${size + 1} ${size + 1}l${-size - 1} ${size + 1}l${-size - 1} ${-size - 1}z` });
    if (group === "score-informed") return element("rect", { ...at, x: x - size + 0.5, y: y - size + 0.5, width: 2 * size - 1, height: 2 * size - 1 });
    return element("circle", { ...at, cx: x, cy: y, r: size });
  }

  const line = (x1, y1, x2, y2, kind = "grid") => element("line", { x1, y1, x2, y2, class: kind });
  const text = (x, y, content, more = {}) => element("text", { x, y, ...more }, content);

  function picture(width, height, label, ...children) {
    return element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label }, children);
  }

  function legend() {
    const groups = data.groups.filter((group) => stemgmd.rows().some((row) => row.group === group.id));
    return element("div", { class: "legend" }, groups.map((group) => element("span", { class: group.id },
      element("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, marker(group.id, 7, 7, 5)), group.id)));
  }

  /** An interval: a line with ends that stand out beside its mark, by dx or dy, however short it is. */
  function whisker(x1, y1, x2, y2, dx, dy) {
    return [line(x1, y1, x2, y2, "range"), ...[[x1, y1], [x2, y2]].map(([x, y]) => line(x - dx, y - dy, x + dx, y + dy, "range"))];
  }

  /** Lines across and numbers below for a scale along x; the lines leave out what is between spans. */
  function axis(marks, toX, spans, bottom, unit) {
    return marks.ticks.map((tick) => element("g", {},
      spans.map(([top, end]) => line(toX(tick), top, toX(tick), end, Math.abs(tick) < 1e-9 ? "zero" : "grid")),
      text(toX(tick), bottom + 15, number(tick, marks.digits) + (tick === marks.ticks.at(-1) && unit ? ` ${unit}` : ""), { "text-anchor": "middle", class: "soft" })));
  }

  function drawDots(box) {
    const metric = stemgmd.metric();
    const rows = stemgmd.rows().map((row) => ({ row, found: stemgmd.estimate(row, metric.id, state.over) })).filter((item) => item.found);
    const sign = metric.higher ? -1 : 1;
    rows.sort((a, b) => sign * (value(a.found[0]) - value(b.found[0])) || 0);
    const over = { all: "all pairs", macro: "mean over stems" }[state.over] || state.over;
    const barred = (found) => !Number.isNaN(value(found[1])), few = (found) => barred(found) && found[4] < data.few;
    const some = (test) => rows.some((item) => test(item.found));
    const bars = some(barred) ? `${stemgmd.captions().bars}${some(few) ? `; ${stemgmd.captions().marked}` : ""}. ` : "";
    document.getElementById("dots-caption").textContent = `${metric.meaning}; ${over}. ${bars}${stemgmd.board().data}`;
    if (!rows.length) return box.replaceChildren("No value of this metric here.");
    // Where there is no room beside the marks, name and value stand above them, and lines only between.
    const width = box.clientWidth, narrow = width < 600, step = narrow ? 40 : 28, size = narrow ? 3.5 : 5;
    const left = narrow ? 14 : 210, right = width - (narrow ? 20 : 60);
    const marks = scale(rows.flatMap((item) => item.found.slice(0, 3).map(value)), narrow ? 4 : 7);
    const toX = (x) => left + ((clamp(x, marks.low, marks.high) - marks.low) / (marks.high - marks.low)) * (right - left);
    const bottom = 12 + rows.length * step, toY = (i) => 12 + i * step + (narrow ? 28 : step / 2);
    const spans = narrow ? rows.map((_, i) => [toY(i) - 9, toY(i) + 9]) : [[8, bottom]];
    const drawn = rows.map(({ row, found }, i) => {
      const y = toY(i), name = stemgmd.system(row.system).name, said = number(found[0], metric.digits) + (few(found) ? "†" : "");
      const [middle, low, high] = found.slice(0, 3).map(value);
      const end = Number.isNaN(high) ? toX(middle) : toX(high);
      const words = narrow
        ? [text(0, y - 14, fit(name, width - textWidth(said) - 16), { class: "name" }), text(width, y - 14, said, { "text-anchor": "end" })]
        : [text(left - 14, y + 4, fit(name, left - 18), { "text-anchor": "end", class: "name" }), text(end + 10, y + 4, said)];
      return element("g", { class: row.group, "data-system": row.system }, element("title", {}, name), words,
        barred(found) ? whisker(toX(low), y, end, y, 0, size + 2.5) : null, marker(row.group, toX(middle), y, size));
    });
    box.replaceChildren(legend(), picture(width, bottom + 24, `${metric.label}, ${over}`, axis(marks, toX, spans, bottom, metric.unit), drawn));
  }

  /** Where labels go: beside their points, off each other, off the points, inside the frame. */
  function place(points, frame) {
    const taken = points.map((p) => ({ x: p.x - 8, y: p.y - 8, w: 16, h: 16 }));
    const overlap = (a, b) => Math.max(0, Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x)) * Math.max(0, Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y));
    return points.map((point) => {
      let best = null;
      const w = textWidth(point.name) + 4, h = 15;
      for (const far of [0, 16, 32, 52, 76]) {
        const spots = [[12, -h / 2 - far], [-w - 12, -h / 2 - far], [12, -h / 2 + far], [-w - 12, -h / 2 + far], [-w / 2, -h - 10 - far], [-w / 2, 10 + far]];
        for (const [dx, dy] of spots) {
          const box = { x: point.x + dx, y: point.y + dy, w, h };
          const outside = Math.max(0, frame.x - box.x) + Math.max(0, box.x + w - frame.x - frame.w) + Math.max(0, frame.y - box.y) + Math.max(0, box.y + h - frame.y - frame.h);
          const cost = taken.reduce((sum, other) => sum + overlap(box, other), 0) + 50 * outside + far / 10;
          if (!best || cost < best.cost) best = { box, cost, far };
        }
      }
      taken.push(best.box);
      return best;
    });
  }

  function drawSpeed(box) {
    const metric = data.metrics.find((each) => each.id === stemgmd.board().headline);
    const all = stemgmd.rows().map((row) => ({ row, info: stemgmd.system(row.system), found: stemgmd.estimate(row, metric.id, "all") }));
    const rows = all.filter((item) => item.info.speed !== null && item.info.speed > 0 && Number.isFinite(value(item.found[0])));
    const left_out = all.filter((item) => !rows.includes(item)).map((item) => item.info.name);
    document.getElementById("speed-caption").textContent = `${stemgmd.captions().speed} ${stemgmd.board().machines}` +
      (left_out.length ? ` Without a measured speed: ${left_out.join(", ")}.` : "");
    if (!rows.length) return box.replaceChildren("No speed was measured.");
    const width = box.clientWidth, height = width < 600 ? 420 : 440, left = 40, right = width - 14, top = 12, bottom = height - 42, size = width < 600 ? 3.5 : 5;
    const decades = rows.map((item) => Math.log10(item.info.speed));
    const low = Math.min(0, Math.floor(Math.min(...decades))), high = Math.max(low + 1, Math.ceil(Math.max(...decades)));
    const marks = scale(rows.flatMap((item) => item.found.slice(0, 3).map(value)));
    const toX = (x) => left + ((Math.log10(x) - low) / (high - low)) * (right - left);
    const toY = (y) => bottom - ((y - marks.low) / (marks.high - marks.low)) * (bottom - top);
    const points = rows.map((item) => ({ ...item, x: toX(item.info.speed), y: toY(value(item.found[0])), name: fit(item.info.name, Math.min(190, width * 0.36)) }));
    const labels = place(points, { x: left + 2, y: top, w: right - left - 4, h: bottom - top });
    const grid = [
      ...Array.from({ length: high - low + 1 }, (_, i) => low + i).map((d) => element("g", {}, line(toX(10 ** d), top, toX(10 ** d), bottom, d === 0 ? "zero" : "grid"),
        text(toX(10 ** d), bottom + 16, d >= 5 ? `10${"⁰¹²³⁴⁵⁶⁷⁸⁹"[d] || "^" + d}` : (10 ** d).toLocaleString("en"), { "text-anchor": "middle", class: "soft" }))),
      ...marks.ticks.map((tick) => element("g", {}, line(left, toY(tick), right, toY(tick), Math.abs(tick) < 1e-9 ? "zero" : "grid"), text(left - 6, toY(tick) + 4, number(tick, marks.digits), { "text-anchor": "end", class: "soft" }))),
      text((left + right) / 2, height - 6, "times real time (log)", { "text-anchor": "middle", class: "soft" }),
    ];
    const drawn = points.map((p, i) => {
      const label = labels[i].box, [, from, to] = p.found.map(value);
      const near = clamp(p.x, label.x, label.x + label.w);
      return element("g", { class: p.row.group, "data-system": p.row.system }, element("title", {}, p.info.name),
        Number.isFinite(from) && Number.isFinite(to) ? whisker(p.x, toY(from), p.x, toY(to), size + 2.5, 0) : null,
        labels[i].far ? line(p.x, p.y, near, label.y + label.h / 2 < p.y ? label.y + label.h : label.y, "leader") : null,
        marker(p.row.group, p.x, p.y, size), text(label.x + 2, label.y + 12, p.name, { class: "label" }));
    });
    box.replaceChildren(legend(), picture(width, height, "nSDR against real-time ratio", grid, drawn));
  }

  function panel(stem, rows, marks, width, metric) {
    const left = Math.min(150, width * 0.38), right = width - 24, step = 22, bottom = 6 + rows.length * step;
    const toX = (x) => left + ((clamp(x, marks.low, marks.high) - marks.low) / (marks.high - marks.low)) * (right - left);
    const drawn = rows.map((row, i) => {
      const found = ((row.boxes[metric.id] || {})[stem.id] || []).map(value), y = 6 + i * step + step / 2, name = stemgmd.system(row.system).name;
      const label = text(left - 8, y + 4, fit(name, left - 10), { "text-anchor": "end" });
      if (!found.length) return element("g", {}, element("title", {}, `${name}: no value`), label, text(left + 6, y + 4, "–", { class: "soft" }));
      const [p5, p25, p50, p75, p95] = found.map(toX);
      const said = found.map((x) => number(x, metric.digits)).join(", ");
      return element("g", { class: row.group }, element("title", {}, `${name}: 5, 25, 50, 75, 95 %: ${said}`), label, line(p5, y, p25, y, "range"), line(p75, y, p95, y, "range"),
        element("rect", { class: "box", x: p25, y: y - 7, width: Math.max(1, p75 - p25), height: 14 }), line(p50, y - 7, p50, y + 7, "median"));
    });
    return picture(width, bottom + 22, `${metric.label} of ${stem.id}`, axis(marks, toX, [[4, bottom]], bottom, metric.unit), drawn);
  }

  function drawBoxes(box) {
    const metric = stemgmd.metric(), rows = stemgmd.rows();
    const marks = scale(rows.flatMap((row) => Object.values(row.boxes[metric.id] || {}).flat().map(value)), 5);
    const figures = data.stems.map((stem) => {
      const figure = element("figure", {}, element("figcaption", {}, `${stem.id} (${stemgmd.board().pairs[stem.id]} clips)`));
      return { stem, figure };
    });
    box.replaceChildren(...figures.map((item) => item.figure));
    for (const { stem, figure } of figures) figure.append(panel(stem, rows, marks, figure.clientWidth, metric));
    document.getElementById("boxes-caption").textContent = `${metric.label}${metric.unit ? ", " + metric.unit : ""}: ${stemgmd.captions().boxes} ${stemgmd.board().data}`;
  }

  stemgmd.drawCharts = function () {
    drawDots(document.getElementById("dots"));
    drawSpeed(document.getElementById("speed"));
    drawBoxes(document.getElementById("boxes"));
  };
}
