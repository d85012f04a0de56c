// A training: a chart a question, and the sessions of one step.

const SVG = "http://www.w3.org/2000/svg";
const CHART = { width: 460, height: 220, left: 52, right: 10, top: 12, bottom: 34 };

FRONT_PAGES.training = trainingPage;

function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, visible(String(value)));
  return put(node, children);
}

async function trainingPage(step) {
  const found = await frontData("training");
  const at = found.steps.includes(step) ? step : found.with_sessions.at(-1) ?? null;
  const groups = found.with_sessions.includes(at) ? await unpack(`front-sessions-${at}`) : null;
  return [
    el("h2", {}, `Training ${found.name}`, el("span", { class: "dim" }, ` \u00b7 ${plural(found.steps.length, "step")}`)),
    found.charts.length === 0 ? el("p", { class: "notice" }, "No step has been finished.") : null,
    el("div", { class: "charts" }, found.charts.map((chart) => chartOf(chart, found, at))),
    at === null ? null : stepOf(at, groups, found),
  ];
}

// From 0, or from below it; up to the round number that holds all values.
function rangeOf(values, most) {
  const low = Math.min(0, ...values);
  const high = Math.max(most ?? -Infinity, ...values);
  if (!(high > low)) return [low, low + 1];
  const apart = apartOf(low, high, 4);
  return [low, Math.max(high, round(Math.ceil(high / apart - 1e-6) * apart) || high)];
}

const round = (value) => Number(value.toPrecision(15));

// 1, 2 or 5 times a power of ten.
function apartOf(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
}

// Round numbers for an axis. They are counted: beside a large number a small one adds nothing.
function ticksOf(low, high, most) {
  const apart = apartOf(low, high, most);
  const first = Math.ceil(low / apart - 1e-6);
  const count = Math.min(Math.floor(high / apart + 1e-6) - first, most);
  const ticks = [];
  for (let i = 0; i <= count; i += 1) ticks.push(round((first + i) * apart));
  return [...new Set(ticks)];
}

const written = (value) => (Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3))));

function chartOf(chart, found, at) {
  const points = chart.series.flatMap((series) => series.points);
  const steps = points.map(([step]) => step);
  const [low, high] = rangeOf(points.map(([, value]) => value), chart.most);
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const { width, height, left, right, top, bottom } = CHART;
  const x = (step) => (last === first ? (left + width - right) / 2 : left + ((step - first) / (last - first)) * (width - left - right));
  const y = (value) => height - bottom - ((value - low) / (high - low)) * (height - top - bottom);
  const label = `${chart.title}: ${chart.unit}`;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    ticksOf(low, high, 4).map((tick) => [
      svg("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
      svg("text", { class: "tick", x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, written(tick))]),
    ticksOf(first, Math.max(last, first + 1), 6).filter((tick) => Number.isInteger(tick) && tick <= last).map((tick) =>
      svg("text", { class: "tick", x: x(tick), y: height - bottom + 16, "text-anchor": "middle" }, tick)),
    svg("text", { class: "tick", x: (left + width - right) / 2, y: height - 3, "text-anchor": "middle" }, "training step"),
    at !== null && at >= first && at <= last ? svg("line", { class: "at", x1: x(at), x2: x(at), y1: top, y2: height - bottom }) : null,
    chart.series.map((series, place) => lineOf(series, place, chart, found, x, y)),
  );
  return el("figure", { class: "chart" },
    el("figcaption", {}, el("b", {}, chart.title), el("span", { class: "dim" }, ` ${chart.unit}${countOf(chart)}`)),
    drawing,
    chart.series.length > 1 ? el("p", { class: "legend" }, chart.series.map((series, place) => [
      el("span", { class: `series-${place % 6}` }, el("i", { "aria-hidden": "true" }, MARKERS[place % 6]), ` ${series.name}`), " "])) : null,
    el("details", {}, el("summary", {}, "Numbers"), tableOf(["step", ...chart.series.map((series) => series.name), ...(chart.noun ? ["n"] : [])],
      numbersOf(chart), [true, ...chart.series.map(() => true), true])),
  );
}

function countOf(chart) {
  const counts = chart.series.flatMap((series) => series.points.map(([, , count]) => count)).filter((count) => count !== null);
  if (!chart.noun || counts.length === 0) return "";
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  return `, n ${least === most ? least.toLocaleString("en") : `${least.toLocaleString("en")} to ${most.toLocaleString("en")}`} ${chart.noun} a step`;
}

function numbersOf(chart) {
  const rows = new Map();
  chart.series.forEach((series, place) => {
    for (const [step, value, count] of series.points) {
      if (!rows.has(step)) rows.set(step, { values: chart.series.map(() => "\u2013"), count });
      rows.get(step).values[place] = written(value);
    }
  });
  return [...rows].sort(([a], [b]) => a - b).map(([step, { values, count }]) =>
    [String(step), ...values, ...(chart.noun ? [count === null ? "\u2013" : String(count)] : [])]);
}

// Lines are told apart by their markers, too, not by colour alone.
const MARKERS = ["\u25cf", "\u25a0", "\u25b2", "\u25c6", "\u2715", "\u25cb"];
const MARKED_POINTS = 80;

function lineOf(series, place, chart, found, x, y) {
  const kind = `series-${place % 6}`;
  const path = series.points.map(([step, value], i) => `${i === 0 ? "M" : "L"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const marks = series.points.length > MARKED_POINTS ? [] : series.points.map(([step, value, count]) => {
    const said = `step ${step}: ${series.name} ${written(value)}${count === null ? "" : ` (n ${count} ${chart.noun})`}`;
    const mark = svg("text", { class: "marker", x: x(step), y: y(value) + 4, "text-anchor": "middle" }, svg("title", {}, said), MARKERS[place % 6]);
    return found.with_sessions.includes(step) ? svg("a", { href: `#training/${step}`, "aria-label": said }, mark) : mark;
  });
  return svg("g", { class: kind }, svg("path", { d: path }), marks);
}

function stepOf(at, groups, found) {
  const steps = found.with_sessions;
  const place = steps.indexOf(at);
  const move = (to, sign, text) => (steps[to] === undefined ? null : el("a", { href: `#training/${steps[to]}`, "aria-label": text }, sign));
  return el("section", { class: "training-step", "aria-label": `Sessions of step ${at}` },
    el("h3", {}, move(place - 1, "\u2190 ", "previous step"), `Sessions of step ${at}`, move(place + 1, " \u2192", "next step")),
    groups === null ? el("p", { class: "dim" }, "There is no log of this step's sessions.")
      : groups.map((group, number) => groupOf(group, number, at)));
}

function groupOf(group, number, at) {
  const flat = new Set(group.sessions.map((session) => session.reward)).size === 1;
  const headers = ["session", "reward", "EM", "steps", "operations", "rejected", "entries at most", "tokens sampled"];
  const rows = group.sessions.map((session) => {
    const row = EPISODES.findLast((one) => one.iteration === at && one.group === number && one.session === session.session && one.item === session.item);
    const name = `session ${session.session ?? "\u2013"}`;
    const operations = Object.entries(session.operations).filter(([, count]) => count > 0).map(([kind, count]) => `${count} ${kind}`).join(", ");
    return [row ? el("a", { href: `#${row.number}` }, name) : [name], [score(session.reward)], [score(session.em)], [String(session.steps ?? "\u2013")],
      [operations || "none"], [String(session.rejected ?? "\u2013")], [String(session.peak_entries ?? "\u2013")],
      [session.response_tokens === null ? "\u2013" : session.response_tokens.toLocaleString("en")]];
  });
  return [
    el("h4", {}, `Group ${number + 1}`, el("span", { class: "dim" }, ` \u00b7 item ${group.sessions[0].item ?? "\u2013"} \u00b7 n ${group.sessions.length}`),
      flat && group.sessions.length > 1 ? el("span", { class: "cause" }, " \u00b7 no variance: it teaches nothing") : null),
    tableOf(headers, rows, headers.map((_, column) => column > 0 && column !== 4)),
  ];
}
