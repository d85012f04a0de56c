// What stands in front of the episodes: what each run is and what came out, and the comparison of two.

const RUN_FRONT = "runs";
const RUNS = INDEX.runs;
const FRONTS = [...INDEX.fronts, ...(RUNS.some((run) => run.front) ? [RUN_FRONT] : [])];
const FRONT_PAGES = { [RUN_FRONT]: runsPage, comparison: comparisonPage };
const SIDES = ["A", "B"];

const frontData = remembering(2, (name) => unpack(`front-${name}`));

async function frontOf(name, step) {
  return FRONT_PAGES[name](step);
}

function buildFrontLinks() {
  fill(byId("fronts"), FRONTS.map((name) => [el("a", { href: `#${name}`, "data-front": name }, name), " "]));
  byId("fronts").hidden = FRONTS.length === 0;
}

async function runsPage() {
  const abouts = await Promise.all(RUNS.map((run, number) => (run.front ? unpack(`run-${number}`) : { name: run.name, plots: [] })));
  const sections = await Promise.all(abouts.map((about, number) => runSection(about, number, abouts.length <= 2)));
  return [el("h2", {}, plural(RUNS.length, "run")), overview(), sections];
}

// Mean exact match by cell, a column a run.
function overview() {
  const cells = new Map();
  for (const row of EPISODES) {
    const key = JSON.stringify([row.label, row.docs, row.agent, row.model]);
    if (!cells.has(key)) cells.set(key, { row, runs: RUNS.map(() => []) });
    cells.get(key).runs[row.run].push(row);
  }
  if (cells.size === 0) return el("p", { class: "dim" }, "No episode has been recorded.");
  const models = EPISODES.some((row) => row.model);
  const rows = [...cells.values()].map(({ row, runs }) => [
    plainLabel(row.label), playedOf(runs.flat()), row.agent, ...(models ? [row.model ?? "\u2013"] : []),
    ...runs.map((episodes) => meanOf(episodes)),
  ]);
  const headers = ["environment", "documents", "agent", ...(models ? ["model"] : []), ...RUNS.map((run) => `EM, ${run.name || "traces"}`)];
  return [
    el("h3", {}, "Exact match"),
    tableOf(headers, rows.map((cells) => cells.map((cell) => [cell])), headers.map((_, column) => column === 1 || column >= headers.length - RUNS.length)),
    el("p", { class: "dim" }, "Mean over the recorded episodes that have a score, n of them."),
  ];
}

// Documents of an episode; where items differ in them, on average.
const playedOf = (rows) => Math.round(rows.reduce((sum, row) => sum + row.documents, 0) / rows.length).toLocaleString("en");

const plainLabel = (label) => label.replace(/^AtomMem-(.*)-v\d+$/, "$1");

function meanOf(episodes) {
  const judged = episodes.filter(scored);
  if (judged.length === 0) return episodes.length === 0 ? "\u2013" : `\u2013 (n 0 of ${episodes.length})`;
  const mean = judged.reduce((sum, row) => sum + row.em, 0) / judged.length;
  return `${mean.toFixed(2)} (n ${judged.length.toLocaleString("en")})`;
}

async function runSection(about, number, open) {
  const shown = new Set();
  const picture = (name, text) => {
    const place = about.plots.indexOf(name);
    if (place < 0) return el("p", { class: "dim" }, `The plot ${name} is not there.`);
    shown.add(name);
    return pictureOf(`plot-${number}-${place}`, text || name);
  };
  const report = about.report ? markdownOf(about.report, picture) : null;
  const others = about.plots.filter((name) => !shown.has(name)).map((name) => picture(name, name));
  const mine = EPISODES.filter((row) => row.run === number);
  return el("section", { class: "run", "aria-label": `Run ${about.name}` },
    el("h3", {}, about.name),
    el("p", { class: "dim" }, mine.length === 0 ? "no recorded episode" : [
      plural(mine.length, "recorded episode"), ` \u00b7 EM ${meanOf(mine)} \u00b7 `,
      el("a", { href: `#${mine[0].number}` }, "first episode")]),
    (about.notices ?? []).map((notice) => el("p", { class: "notice" }, notice)),
    report || others.length > 0
      ? el("details", { open }, el("summary", {}, "Report: tables and plots"), el("div", { class: "report" }, report, others))
      : null,
    about.plan ? el("details", {}, el("summary", {}, "Plan"), long(about.plan, "raw")) : null,
  );
}

// A picture is bytes that the browser draws; nothing in it is ever a document.
function pictureOf(name, text) {
  const image = el("img", { alt: text, loading: "lazy" });
  bytesOf(name).then(
    (bytes) => { image.src = URL.createObjectURL(new Blob([bytes], { type: "image/png" })); },
    (error) => image.replaceWith(el("p", { class: "notice" }, `${text}: ${error.message}`)),
  );
  return el("figure", {}, image, el("figcaption", { class: "dim" }, text));
}

// B minus A, and the items at which one is better.
async function comparisonPage() {
  const found = await frontData("comparison");
  const headers = ["environment", "documents", "agents", "pairs", "A", "B", "B \u2212 A (95 %)", "B better", "worse", "equal", "p (permutation)"];
  const rows = found.rows.map((row) => [
    row.env, row.docs, agentsOf(row),
    row.pairs, row.a.toFixed(3), row.b.toFixed(3), row.difference, row.wins, row.losses, row.ties, row.p,
  ].map((value) => [String(value)]));
  const better = found.items.filter((item) => item.b - item.a > EQUAL);
  const worse = found.items.filter((item) => item.a - item.b > EQUAL);
  return [
    el("h2", {}, `${found.metric === "em" ? "Exact match" : found.metric}: B (${found.names[1]}) minus A (${found.names[0]})`),
    found.warnings.map((warning) => el("p", { class: "notice" }, warning)),
    found.why ? el("p", { class: "notice" }, found.why) : null,
    rows.length > 0 ? tableOf(headers, rows, headers.map((_, column) => column === 1 || column > 2)) : null,
    found.notes.map((note) => el("p", { class: "dim" }, note)),
    rows.length > 0 ? [itemsOf("B is better", better, found.runs), itemsOf("B is worse", worse, found.runs)] : null,
  ];
}

const ITEMS_SHOWN = 200;
// Means of equal values may differ in their last bit.
const EQUAL = 1e-9;
const agentsOf = ({ agents: [a, b] }) => (a === b ? a : `${a} \u2192 ${b}`);

function itemsOf(title, items, runs) {
  items = [...items].sort((one, other) => Math.abs(other.b - other.a) - Math.abs(one.b - one.a));
  const more = items.length > ITEMS_SHOWN ? el("p", { class: "dim" }, `and ${items.length - ITEMS_SHOWN} more`) : null;
  return el("section", { class: "items", "aria-label": title },
    el("h3", {}, `${title} at ${plural(items.length, "item")}`),
    items.length === 0 ? null : el("ol", { class: "pairs" }, items.slice(0, ITEMS_SHOWN).map((item) => {
      const [a, b] = SIDES.map((_, side) => episodeLike(item, runs[side], item.agents[side]));
      const documents = (a ?? b)?.documents ?? item.docs;
      const about = `${item.env}${documents ? ` \u00b7 ${plural(documents, "document")}` : ""} \u00b7 ${agentsOf(item)}`;
      const values = `${score(item.a)} \u2192 ${score(item.b)}`;
      const question = (a ?? b)?.questions[0]?.question ?? `item ${item.index}`;
      return el("li", {},
        el("span", { class: "values" }, values),
        el("span", { class: "what" },
          a && b ? el("a", { href: `#${a.number}~${b.number}` }, question) : [question, el("span", { class: "dim" }, " (no trace)")],
          el("span", { class: "about" }, about)));
    })), more);
}

const episodeLike = (item, run, agent) => EPISODES.find((row) =>
  row.run === run && row.agent === agent && row.index === item.index && row.layout === item.layout &&
  row.label === item.env && (row.docs ?? 0) === item.docs);
