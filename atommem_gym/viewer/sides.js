// Two episodes over one item side by side, step by step, and where they first differ.

// Episodes over the same documents in the same order, with the same questions.
const sameItem = (row, other) =>
  ["label", "item", "index", "layout", "docs"].every((name) => row[name] === other[name]) &&
  row.questions.length === other.questions.length &&
  row.questions.every((question, i) => question.question === other.questions[i].question);

// The episode that stands to another row as these two do: of the same run, agent and seed.
function partnerOf(row, other) {
  const like = EPISODES.filter((one) => one !== row && sameItem(one, row) && one.run === other.run && one.agent === other.agent);
  return like.find((one) => one.seed === other.seed) ?? like[0] ?? null;
}

const memoryText = (live) => [...live].sort(([a], [b]) => a - b).map(([id, text]) => `${id}  ${text}`).join("\n");
const foundText = (seen) => seen.memories.map((entry) => `${entry.id}  ${entry.text}`).join("\n");

// What differs at a step, in the order in which it happens: the texts of both sides, "" where there is none.
function differencesAt(episodes, number) {
  const steps = episodes.map((episode) => episode.steps[number] ?? null);
  if (steps.some((step) => step === null)) return [];
  const texts = {
    "the chunk": ({ seen }) => seen.chunk,
    "the open question": ({ seen }) => seen.question,
    "what the last read found": ({ seen }) => foundText(seen),
    "the scratchpad": ({ seen }) => seen.scratchpad,
    "the action": ({ action }) => action,
  };
  const pairs = Object.entries(texts).map(([what, of]) => ({ what, sides: steps.map(of) }));
  pairs.push({ what: "memory after it", sides: episodes.map((episode) => memoryText(episode.memories[number])) });
  return pairs.filter(({ sides: [a, b] }) => a !== b);
}

// The numbers of the steps that differ; a step that one of them has not differs, too.
function stepsThatDiffer(episodes) {
  const most = Math.max(...episodes.map((episode) => episode.steps.length));
  const least = Math.min(...episodes.map((episode) => episode.steps.length));
  return [...Array(most).keys()].filter((number) => number >= least || differencesAt(episodes, number).length > 0);
}

function showSides(rows, episodes) {
  const differing = stepsThatDiffer(episodes);
  const most = Math.max(...episodes.map((episode) => episode.steps.length));
  const [row] = rows;
  const alike = sameItem(...rows);
  fill(byId("episode"),
    el("p", { class: "facts" }, plainLabel(row.label), el("span", { class: "dim" },
      ` \u00b7 item ${row.item}${row.layout ? ` \u00b7 layout ${row.layout}` : ""} \u00b7 ${plural(row.documents, "document")}`)),
    alike ? null : el("p", { class: "notice" }, "These are episodes over different items; that their steps differ says nothing."),
    alike ? row.questions.map((question, i) => el("section", { class: "asked-question asked", "aria-label": `Question ${i + 1}` },
      el("h2", {}, rows[0].questions.length > 1 ? `${i + 1}. ` : null, question.question),
      question.gold.length > 0 ? el("dl", {}, pair("gold", question.gold.join(" | "))) : null)) : null,
    el("div", { class: "two" }, rows.map((one, side) => sideOf(one, side, alike))),
    el("p", { class: "first" }, differing.length === 0
      ? "Nothing differs: what was seen, done and kept is the same in every step."
      : ["First difference: ", el("a", { href: sidesAddress(differing[0]), id: "first-difference" }, `step ${differing[0] + 1}`),
        ` (${whatDiffers(episodes, differing[0])}). ${differing.length} of ${plural(most, "step")} differ.`]),
  );
  const marked = new Set(differing);
  fill(byId("timeline"), episodes.map((episode, side) => el("div", { class: `lane side-${side}` },
    el("b", { "aria-hidden": "true" }, SIDES[side]),
    el("ol", { "aria-label": `Steps of ${SIDES[side]}` }, episode.steps.map((step, number) =>
      sidesCell(step, number, marked.has(number), number === differing[0]))))), legend(), sidesLegend());
}

const sidesLegend = () => el("p", { class: "legend", "aria-hidden": "true" },
  el("span", {}, el("i", { class: "differs" }, "\u2260"), " differs"), " the first one has a frame");

function whatDiffers(episodes, number) {
  const found = differencesAt(episodes, number);
  if (found.length > 0) return found.map(({ what }) => what).join(", ");
  const side = episodes.findIndex((episode) => number >= episode.steps.length);
  return `${SIDES[side]} ended after ${plural(episodes[side].steps.length, "step")}`;
}

const sidesAddress = (step) => `#${place.episode}~${place.other}/${step}`;

function sidesCell(step, number, differs, first) {
  const { counts, rejected } = doingsOf(step);
  const said = [`Step ${number + 1}`, ...[...counts].map(([kind, count]) => `${count} ${kind}`), ...(rejected ? [`${rejected} rejected`] : []),
    ...(differs ? [first ? "the first that differs" : "differs"] : [])].join(", ");
  const kinds = [step.seen.phase === 0 ? "reading" : "answering", ...(differs ? ["differs"] : []), ...(first ? ["first"] : [])].join(" ");
  return el("li", {}, el("a", { href: sidesAddress(number), class: kinds, title: said, "aria-label": said, "data-step": number },
    el("span", { class: "at" }, number + 1, differs ? el("i", { class: "differs", "aria-hidden": "true" }, "\u2260") : null),
    el("span", { class: "signs", "aria-hidden": "true" }, [...counts].map(([kind]) => el("i", { class: kind }, SIGNS[kind])),
      rejected ? el("i", { class: "rejected" }, "!") : null)));
}

function sideOf(row, side, alike) {
  return el("section", { class: `side side-${side}`, "aria-label": `Episode ${SIDES[side]}` },
    el("h2", {}, el("b", { class: "letter" }, SIDES[side]), " ", nameOfRow(row), " ",
      el("a", { class: "alone", href: `#${row.number}` }, "alone")),
    el("ul", { class: "numbers", "aria-label": `Results of ${SIDES[side]}` },
      scored(row) ? resultsOf(row) : null, number("steps", row.steps), number("entries at most", row.entries), number("rejected", row.rejected)),
    row.questions.map((question, i) => el("div", { class: `asked-question ${question.em >= 1 ? "right" : question.gold.length > 0 ? "wrong" : "asked"}` },
      alike ? null : el("h3", {}, question.question),
      el("dl", {}, pair(alike && row.questions.length > 1 ? `answer ${i + 1}` : "answer", el("span", { class: "answer" }, question.answer ?? el("em", {}, `none (${question.closed ?? "not answered"})`))),
        question.gold.length > 0 && !alike ? pair("gold", question.gold.join(" | ")) : null,
        row.causes[i] ? pair("cause", el("span", { class: "cause" }, row.causes[i])) : null))),
  );
}

function nameOfRow(row) {
  const run = RUNS.length > 1 && RUNS[row.run].name ? `${RUNS[row.run].name} \u00b7 ` : "";
  return `${run}${row.agent}${row.model ? ` \u00b7 ${row.model}` : ""} \u00b7 seed ${row.seed}`;
}

// Open where it can be read at a glance.
function wordByWord({ what, sides: [a, b] }) {
  return el("details", { open: a.length + b.length < 1200 }, el("summary", {}, what), long(difference(a, b), "raw"));
}

function showSidesStep(episodes, number) {
  const cells = [...byId("timeline").querySelectorAll("ol a")];
  const current = cells.find((cell) => Number(cell.getAttribute("data-step")) === number);
  markAmong(cells, current ?? null, "step");
  for (const cell of cells) if (Number(cell.getAttribute("data-step")) === number) cell.setAttribute("aria-current", "step");
  const most = Math.max(...episodes.map((episode) => episode.steps.length));
  const differences = differencesAt(episodes, number);
  const title = `Step ${number + 1} of ${most}`;
  fill(byId("step"),
    el("header", {}, el("h2", {}, title)),
    el("section", { class: "panel differences", "aria-label": "What differs" },
      el("h3", {}, "What differs at this step"),
      episodes.some((episode) => number >= episode.steps.length) ? el("p", {}, `${whatDiffers(episodes, number)}.`)
        : differences.length === 0 ? el("p", { class: "dim" }, "Nothing: what was seen, done and kept is the same.")
          : [el("p", { class: "dim" }, "Word by word: ", el("del", {}, "only A"), " ", el("ins", {}, "only B"), " both"),
            differences.map(wordByWord)]),
    el("div", { class: "two" }, episodes.map((episode, side) => {
      const step = episode.steps[number];
      if (!step) return el("section", { class: `side side-${side}` }, el("p", { class: "dim" }, `${SIDES[side]} has no step ${number + 1}.`));
      return el("section", { class: `side side-${side}`, "aria-label": `Step of ${SIDES[side]}` },
        el("h3", {}, el("b", { class: "letter" }, SIDES[side]), el("span", { class: "dim" }, ` reward ${score(step.reward)}${step.over ? ` \u00b7 ${step.over}` : ""}`)),
        donePanel(episode, step, number), memoryPanel(episode, step, number),
        el("details", {}, el("summary", {}, "Seen"), seenPanel(episode, step)));
    })),
  );
  fill(byId("announce"), `${title}, ${differences.length === 0 ? "nothing differs" : whatDiffers(episodes, number)}`);
}
