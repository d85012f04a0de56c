// The list of episodes: filters, order, rows.

const ALL = "";
const CHOICES = {
  run: { label: "run", values: (row) => (RUNS[row.run].name ? [RUNS[row.run].name] : []) },
  agent: { label: "agent", values: (row) => [row.agent] },
  model: { label: "model", values: (row) => (row.model ? [row.model] : []) },
  env: { label: "env", values: (row) => [row.label] },
  docs: { label: "documents", values: (row) => [String(row.documents)], numeric: true },
  seed: { label: "seed", values: (row) => [String(row.seed)], numeric: true },
  iteration: { label: "training step", values: (row) => (row.iteration === null ? [] : [String(row.iteration)]), numeric: true },
  em: { label: "result", values: (row) => [resultOf(row)], order: ["right", "partly", "wrong"] },
  cause: { label: "cause", values: (row) => [...new Set(row.causes.filter(Boolean))], alone: true },
  worth: { label: "operations", values: (row) => (row.valued ? ["with counterfactuals"] : []), alone: true },
};
const ORDERS = {
  "file order": (row) => row.number,
  "worst first": (row) => row.em ?? -1,
  "best first": (row) => -(row.em ?? -1),
  "most steps": (row) => -row.steps,
  "most entries": (row) => -row.entries,
  "most rejected": (row) => -row.rejected,
  "least evidence": (row) => row.recall ?? 0,
  "slowest": (row) => -(row.seconds ?? 0),
  "most tokens": (row) => -row.tokens,
  "question": (row) => row.questions[0]?.question ?? "",
};

const chosen = { ...Object.fromEntries(Object.keys(CHOICES).map((name) => [name, ALL])), order: "file order", words: [] };
let found = EPISODES;
// So many rows are made at once: a list of thousands would take longer to draw than anybody reads of it.
const ROWS_AT_ONCE = 500;
let rowsShown = ROWS_AT_ONCE;

// An episode over a user's documents has no gold answer, and one of which no question counts has no score: neither is
// right or wrong.
const scored = (row) => row.em !== null && row.questions.some((question) => question.gold.length > 0);

function resultOf(row) {
  if (!scored(row)) return "asked";
  if (row.em >= 1) return "right";
  return row.em > 0 ? "partly" : "wrong";
}

const HAYSTACKS = EPISODES.map((row) =>
  [row.item, row.agent, ...row.questions.flatMap((one) => [one.question, one.answer ?? "", ...one.gold])]
    .join("\n")
    .toLowerCase(),
);

function matches(row) {
  for (const [name, choice] of Object.entries(CHOICES)) {
    if (chosen[name] !== ALL && !choice.values(row).includes(chosen[name])) return false;
  }
  return chosen.words.every((word) => HAYSTACKS[row.number].includes(word));
}

function search() {
  const key = ORDERS[chosen.order];
  found = EPISODES.filter(matches);
  found.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    return x < y ? -1 : x > y ? 1 : a.number - b.number;
  });
  rowsShown = ROWS_AT_ONCE;
  showList();
}

function select(name, label, options, onChange) {
  const choices = options.map(([value, text]) => el("option", { value }, text));
  const list = el("select", { id: `filter-${name}`, on: { change: onChange } }, choices);
  return el("label", {}, el("span", { class: "unseen" }, label), list);
}

function buildFilters() {
  const selects = byId("selects");
  for (const [name, choice] of Object.entries(CHOICES)) {
    const counts = new Map();
    for (const row of EPISODES) for (const value of choice.values(row)) counts.set(value, (counts.get(value) ?? 0) + 1);
    // A choice of one is none, unless there are episodes without any.
    if (counts.size < 2 && !(choice.alone && counts.size > 0)) continue;
    const values = [...counts.keys()].sort(choice.numeric ? (a, b) => a - b : undefined);
    if (choice.order) values.sort((a, b) => choice.order.indexOf(a) - choice.order.indexOf(b));
    const options = [[ALL, `any ${choice.label}`], ...values.map((value) => [value, `${value} (${counts.get(value)})`])];
    selects.append(select(name, choice.label, options, (event) => {
      chosen[name] = event.target.value;
      search();
    }));
  }
  const orders = Object.keys(ORDERS).map((name) => [name, name]);
  selects.append(select("order", "order", orders, (event) => {
    chosen.order = event.target.value;
    search();
  }));
  byId("search").addEventListener("input", (event) => {
    chosen.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    search();
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
}

function showList() {
  const judged = found.filter(scored);
  const mean = judged.reduce((sum, row) => sum + (row.em ?? 0), 0) / judged.length;
  const of = found.length === EPISODES.length ? "" : ` of ${EPISODES.length.toLocaleString("en")}`;
  const em = judged.length > 0 ? ` \u00b7 mean EM ${score(mean)}` : "";
  const noun = EPISODES.length === 1 ? "episode" : "episodes";
  fill(byId("count"), `${found.length.toLocaleString("en")}${of} ${noun}${em}`);
  const at = found.findIndex((row) => row.number === place.episode);
  if (at >= rowsShown) rowsShown = at + ROWS_AT_ONCE;
  fill(byId("list"), found.slice(0, rowsShown).map(rowOf), moreRows());
  if (found.length === 0) byId("list").append(el("li", { class: "empty" }, EPISODES.length === 0 ? "No episode was recorded." : "No episode is like that."));
  markCurrent();
}

function moreRows() {
  if (found.length <= rowsShown) return null;
  const text = `${(found.length - rowsShown).toLocaleString("en")} more`;
  return el("li", { class: "more" }, el("button", { type: "button", on: { click: () => {
    rowsShown += ROWS_AT_ONCE;
    showList();
  } } }, text));
}

function rowOf(row) {
  work.rows += 1;
  const result = resultOf(row);
  const cause = row.causes.find(Boolean);
  const question = row.questions[0]?.question ?? row.item;
  const more = row.questions.length > 1 ? ` (+${row.questions.length - 1})` : "";
  return el("li", {},
    el("a", { href: `#${row.number}`, "data-number": row.number, tabindex: "-1" },
      el("span", { class: `result ${result}`, title: result }, result === "asked" ? "?" : score(row.em)),
      el("span", { class: "what" },
        el("span", { class: "question" }, question, more),
        el("span", { class: "about" },
          RUNS.length > 1 && RUNS[row.run].name ? `${RUNS[row.run].name} \u00b7 ` : null,
          `${row.agent} \u00b7 ${plural(row.steps, "step")}`,
          cause ? [" \u00b7 ", el("span", { class: "cause" }, cause)] : null),
      ),
    ),
  );
}

function markCurrent() {
  for (const link of byId("fronts").querySelectorAll("a")) {
    if (link.getAttribute("data-front") === place.front) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (found.findIndex((row) => row.number === place.episode) >= rowsShown) {
    showList();
    return;
  }
  const links = [...byId("list").querySelectorAll("a")];
  const current = links.find((link) => link.getAttribute("data-number") === String(place.episode));
  markAmong(links, current ?? null, "true");
  if (current) current.scrollIntoView({ block: "nearest" });
}

// Of many links one is current, and that one alone is a stop of the Tab key; the focus goes along with it.
function markAmong(links, current, kind) {
  const focused = links.includes(document.activeElement);
  for (const link of links) {
    link.removeAttribute("aria-current");
    link.setAttribute("tabindex", "-1");
  }
  (current ?? links[0])?.setAttribute("tabindex", "0");
  current?.setAttribute("aria-current", kind);
  if (focused) current?.focus({ preventScroll: true });
}

// The episode before or after the current one, in the order of the list.
function neighbour(offset) {
  if (found.length === 0) return null;
  const at = found.findIndex((row) => row.number === place.episode);
  if (at < 0) return found[0].number;
  return found[Math.max(0, Math.min(found.length - 1, at + offset))].number;
}
