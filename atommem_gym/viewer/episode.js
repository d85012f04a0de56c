// One episode as a whole: questions with answers, the way of their evidence, and the time line.

const SIGNS = {
  create: "+",
  update: "~",
  delete: "\u2212",
  read: "?",
  scratchpad: "\u270e",
  answer: "\u2713",
};

function showEpisode(row, episode) {
  const twins = EPISODES.filter((other) => other !== row && sameItem(other, row));
  fill(byId("episode"),
    el("p", { class: "facts" },
      RUNS[row.run].name ? el("span", { class: "dim" }, `${RUNS[row.run].name} \u00b7 `) : null,
      el("strong", {}, row.agent), row.model ? ` with ${row.model}` : null, " in ", row.env,
      el("span", { class: "dim" }, ` \u00b7 item ${row.item}`),
      row.layout ? el("span", { class: "dim" }, ` \u00b7 layout ${row.layout}`) : null,
      el("span", { class: "dim" }, ` \u00b7 ${plural(row.documents, "document")}`),
      el("span", { class: "dim" }, ` \u00b7 seed ${row.seed}`),
    ),
    el("ul", { class: "numbers", "aria-label": "Results" },
      scored(row) ? resultsOf(row) : null,
      row.rescores.map((one) => number(`reward by ${one.scorer}`, score(one.reward))),
      number("steps", row.steps), number("entries at most", row.entries), number("rejected", row.rejected),
      row.tokens ? number("tokens", row.tokens.toLocaleString("en")) : null,
      number("time", duration(row.seconds)),
      row.truncated ? number("truncated", "yes", "wrong") : null,
    ),
    row.questions.map((question, i) => questionOf(row, episode, question, i)),
    scored(row) && twins.length > 0
      ? el("p", { class: "twins" }, "Same item: ", twins.slice(0, 12).map((twin) => [
          el("span", { class: "twin" },
            el("a", { href: `#${twin.number}` }, twin.run === row.run ? "" : `${RUNS[twin.run].name} \u00b7 `,
              twin.agent, twin.seed === row.seed ? "" : ` (seed ${twin.seed})`,
              el("span", { class: `result ${resultOf(twin)}` }, score(twin.em))),
            el("a", { class: "beside", href: `#${row.number}~${twin.number}`, title: "side by side" }, "\u21c4",
              el("span", { class: "unseen" }, ` side by side with ${twin.agent}`))), " "]))
      : null,
    branchesOf(row),
    worthTables(row, episode),
    settingsOf(row, episode),
  );
  showTimeline(episode);
}

// Where the episode parted from another one, and which ones part from it (forks).
function branchesOf(row) {
  const children = row.id === null ? [] : EPISODES.filter((one) => one.branch?.parent === row.id && one !== row);
  const parent = row.branch === null ? null : EPISODES.find((one) => one.id === row.branch.parent) ?? null;
  const siblings = row.branch === null ? [] : EPISODES.filter((one) => one !== row && one.branch?.parent === row.branch.parent && one.branch.step === row.branch.step);
  const link = (one, step) => [el("span", { class: "twin" },
    el("a", { href: `#${one.number}` }, `${one.agent} ${one.number}`, el("span", { class: `result ${resultOf(one)}` }, score(one.em))),
    el("a", { class: "beside", href: `#${row.number}~${one.number}/${step}`, title: "side by side where they part" }, "\u21c4",
      el("span", { class: "unseen" }, ` side by side with episode ${one.number}`))), " "];
  return [
    row.branch === null ? null : el("p", { class: "twins branches" }, `Parted after ${plural(row.branch.step, "step")} from `,
      parent === null ? `episode ${row.branch.parent}, which is not on this page` : link(parent, row.branch.step)),
    siblings.length > 0 ? el("p", { class: "twins branches" }, "Parted there, too: ", siblings.slice(0, 24).map((one) => link(one, row.branch.step))) : null,
    children.length > 0 ? el("p", { class: "twins branches" }, "Branches: ", children.slice(0, 24).map((one) => [
      el("span", { class: "dim" }, `after ${plural(one.branch.step, "step")} `), link(one, one.branch.step)])) : null,
  ];
}

const resultsOf = (row) => [
  number("EM", score(row.em), resultOf(row)),
  number("F1", score(row.f1)),
  number("reward", score(row.reward)),
  number("evidence recall", score(row.recall)),
];

const pair = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));

const number = (name, value, kind) => el("li", { class: kind ?? null }, el("span", {}, name), el("b", {}, value));

function questionOf(row, episode, question, i) {
  const result = question.gold.length === 0 ? "asked" : question.em >= 1 ? "right" : "wrong";
  const given = ["answered", "unscored", "not_erased"].includes(question.closed) ? question.answer : null;
  return el("section", { class: `asked-question ${result}`, "aria-label": `Question ${i + 1}` },
    el("h2", {}, row.questions.length > 1 ? `${i + 1}. ` : null, question.question),
    el("dl", {},
      pair("answer", el("span", { class: "answer" }, given ?? el("em", {}, `none (${question.closed ?? "not answered"})`))),
      question.gold.length > 0 ? pair("gold", question.gold.join(" | ")) : null,
      row.causes[i] ? pair("cause", el("span", { class: "cause" }, row.causes[i])) : null,
    ),
    episode.journeys[i].length > 0
      ? el("details", { class: "evidence" }, el("summary", {}, "Evidence: ", fatesOf(episode.fates[i])),
          el("ul", {}, episode.journeys[i].map(journeyItem)))
      : null,
  );
}

// How far the pieces of evidence came, in a few words.
function fatesOf(fates) {
  const counts = new Map();
  for (const fate of fates) counts.set(fate, (counts.get(fate) ?? 0) + 1);
  return [...counts].map(([fate, count]) => `${count} ${fate}`).join(", ");
}

function journeyItem(journey) {
  const links = (steps) => steps.slice(0, 8).map((step) => [" ", stepLink(step)]);
  const more = (steps) => (steps.length > 8 ? " \u2026" : null);
  return el("li", {},
    el("q", {}, journey.text), el("span", { class: "dim" }, ` (${journey.title})`), el("br"),
    el("span", { class: "way" },
      "in the chunk of step", journey.read.length > 0 ? links(journey.read) : " \u2013",
      " \u2192 stored at", journey.stored.length > 0
        ? journey.stored.slice(0, 8).map(({ step, where }) => [" ", stepLink(step), ` as ${nameOf(where)}`])
        : " \u2013",
      journey.lost.length > 0 ? [" \u2192 lost at", links(journey.lost)] : null,
      " \u2192 shown while answering at", journey.shown.length > 0 ? [links(journey.shown), more(journey.shown)] : " \u2013",
    ),
  );
}

const nameOf = (where) => (where === "scratchpad" ? where : `entry ${where}`);

const stepLink = (step) => el("a", { href: `#${place.episode}/${step}` }, `${step + 1}`);

function settingsOf(row, episode) {
  const shown = { ...episode.keywords, agent: row.agent, ...episode.settings, seed: row.seed };
  const written = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const pairs = (values) =>
    Object.entries(values).map(([name, value]) => [el("dt", {}, name), el("dd", {}, written(value))]);
  return el("details", { class: "settings" },
    el("summary", {}, "Settings and versions"),
    el("dl", {}, pairs(shown), pairs({ started: episode.started, ...episode.versions })),
  );
}

// What a step did, as sign and count for each kind of operation.
function doingsOf(step) {
  const counts = new Map();
  let rejected = 0;
  for (const operation of step.operations) {
    if (operation.outcome === "rejected") rejected += 1;
    else if (operation.kind in SIGNS) counts.set(operation.kind, (counts.get(operation.kind) ?? 0) + 1);
  }
  return { counts, rejected };
}

const holdsEvidence = (episode, number) =>
  episode.journeys.some((ofQuestion) => ofQuestion.some((journey) => journey.read.includes(number)));

function showTimeline(episode) {
  const cells = episode.steps.map((step, number) => {
    const { counts, rejected } = doingsOf(step);
    const reading = step.seen.phase === 0;
    const evidence = holdsEvidence(episode, number);
    const worth = largestWorth(episode, number);
    const said = [
      `Step ${number + 1}, ${reading ? `reading chunk ${step.seen.progress[0] + 1} of ${step.seen.progress[1]}` : "answering"}`,
      ...[...counts].map(([kind, count]) => `${count} ${kind}`),
      ...(rejected ? [`${rejected} rejected`] : []),
      ...(evidence ? ["the chunk holds evidence"] : []),
      ...(worth ? [`an operation was worth ${signed(worth)}`] : []),
    ].join(", ");
    const kinds = [reading ? "reading" : "answering", ...(evidence ? ["gold"] : [])].join(" ");
    return el("li", {}, el("a", { href: `#${place.episode}/${number}`, class: kinds, title: said, "aria-label": said },
      el("span", { class: "at" }, number + 1),
      el("span", { class: "signs", "aria-hidden": "true" },
        [...counts].map(([kind]) => el("i", { class: kind }, SIGNS[kind])), rejected ? el("i", { class: "rejected" }, "!") : null),
      worth ? worthSign(worth) : null,
    ));
  });
  fill(byId("timeline"), el("ol", {}, cells), legend(episode.counterfactuals.length > 0));
}

const worthSign = (worth) => el("i", { class: `worth ${signOf(worth)}`, "aria-hidden": "true" }, worth > 0 ? "\u25b2" : "\u25bc");

function legend(worth = false) {
  return el("p", { class: "legend", "aria-hidden": "true" },
    Object.entries(SIGNS).map(([kind, sign]) => [el("span", {}, el("i", { class: kind }, sign), ` ${kind}`), " "]),
    el("span", {}, el("i", { class: "rejected" }, "!"), " rejected"), " ",
    el("span", {}, el("i", { class: "flag" }), " evidence in the chunk"),
    worth ? [" ", el("span", {}, worthSign(1), worthSign(-1), " an operation earned or cost reward")] : null);
}
