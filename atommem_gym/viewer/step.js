// One step: what was seen, what was done, and memory after it.

let seenTab = "observation";

function showStep(episode, number) {
  const step = episode.steps[number];
  const cells = [...byId("timeline").querySelectorAll("ol a")];
  markAmong(cells, cells[number], "step");
  const [read, chunks] = step.seen.progress;
  const phase = step.seen.phase === 0 ? `reading chunk ${read + 1} of ${chunks}` : "answering";
  const title = `Step ${number + 1} of ${episode.steps.length}`;
  fill(byId("step"),
    el("header", {},
      el("h2", {}, title, el("span", { class: "dim" }, ` \u00b7 ${phase}`)),
      el("p", { class: "dim" },
        `reward ${score(step.reward)}`, step.over ? ` \u00b7 ${step.over}` : null,
        ` \u00b7 ${plural(step.seen.steps_left, "step")} and ${plural(step.seen.reads_left, "read")} left`,
        timesOf(step)),
    ),
    el("div", { class: "panels" }, seenPanel(episode, step), donePanel(episode, step, number), memoryPanel(episode, step, number)),
  );
  fill(byId("announce"), `${title}, ${phase}`);
}

function timesOf(step) {
  const tokens = step.completions.reduce((sum, one) => sum + (one.completion_tokens ?? 0), 0);
  const prompt = step.completions.reduce((sum, one) => sum + (one.prompt_tokens ?? 0), 0);
  return [
    step.seconds ? ` \u00b7 agent ${duration(step.seconds.agent)}, environment ${duration(step.seconds.env)}` : null,
    step.completions.length > 0 ? ` \u00b7 ${prompt.toLocaleString("en")} + ${tokens.toLocaleString("en")} tokens` : null,
    step.completions.some((one) => one.finish_reason === "length") ? " \u00b7 cut by the token limit" : null,
  ];
}

function panel(name, title, ...children) {
  return el("section", { class: `panel ${name}`, "aria-label": title }, el("h3", {}, title), children);
}

const part = (title, ...children) => el("div", { class: "part" }, el("h4", {}, title), children);
const long = (content, kind = "") => el("div", { class: `long ${kind}`, tabindex: "0", dir: "auto" }, content);

function seenPanel(episode, step) {
  const tabs = step.messages
    ? el("div", { class: "tabs", role: "group", "aria-label": "What to show" }, ["observation", "prompt"].map((name) =>
        el("button", { type: "button", "aria-pressed": String(seenTab === name), on: { click: () => { seenTab = name; show(); } } }, name)))
    : null;
  const body = step.messages && seenTab === "prompt"
    ? step.messages.map((message) => part(message.role, long(marked(message.content, episode.evidence), "raw")))
    : observationOf(episode, step.seen);
  const missing = step.dropped.map((one) => `${one.what}: ${one.dropped} of ${one.of} ${one.unit} dropped`);
  const notice = missing.length > 0
    ? el("p", { class: "notice" }, `The model was not shown everything. ${missing.join("; ")}`)
    : null;
  return panel("seen", "Seen", tabs, notice, body);
}

function observationOf(episode, seen) {
  return [
    seen.query ? part(["Read: ", el("q", {}, seen.query)], hitsOf(episode, seen)) : null,
    seen.phase === 1 && seen.question ? part("Open question", el("p", {}, seen.question)) : null,
    seen.scratchpad ? part("Scratchpad", el("p", { class: "dim" }, `${plural(seen.scratchpad.length, "character")}, under memory`)) : null,
    seen.feedback ? part("Feedback", el("ul", { class: "feedback" }, feedbackLines(seen.feedback).map((line) =>
      el("li", { class: line.startsWith("created ") ? "fine" : "refused" }, line)))) : null,
    seen.chunk ? part("Chunk", long(marked(seen.chunk, episode.evidence), "chunk")) : null,
  ];
}

function hitsOf(episode, seen) {
  if (seen.memories.length === 0) return el("p", { class: "dim" }, "nothing found");
  return el("ol", { class: "entries" }, seen.memories.map((entry) =>
    entryOf(entry.id, marked(entry.text, episode.evidence, { hints: true }), "read", score(entry.score))));
}

// A dozen confirmations in a row say no more than their range.
function feedbackLines(feedback) {
  const lines = [];
  let first = null;
  let last = null;
  for (const line of feedback.split("\n")) {
    const id = /^created (\d+)$/.exec(line)?.[1];
    if (id !== undefined && last !== null && Number(id) === last + 1) {
      lines[lines.length - 1] = `created ${first} to ${id}`;
    } else {
      lines.push(line);
      first = id ?? null;
    }
    last = id === undefined ? null : Number(id);
  }
  return lines;
}

function donePanel(episode, step, number) {
  const operations = step.operations.map((operation) => operationOf(operation, step, episode, number));
  return panel("done", "Done",
    operations.length > 0 ? el("ol", { class: "operations" }, operations) : el("p", { class: "dim" }, "no operation"),
    step.operations.some((one) => one.kind === "read" && one.outcome !== "rejected") ? readNext(episode, number) : null,
    reasoningOf(step),
    step.response !== null ? el("details", { open: "" }, el("summary", {}, "Response"), long(step.response, "raw")) : null,
    el("details", { open: step.operations.length === 0 },
      el("summary", {}, step.response === null ? "Action" : "Action, as the environment read it"),
      long(step.action || "(empty)", "raw")),
    (step.reader ?? []).map(readingOf),
  );
}

// The answer of a frozen reader, in place of the policy's empty one.
function readingOf(reading) {
  const saw = reading.ids.length === 0 ? "no entries" : `entries ${reading.ids.join(", ")}`;
  return el("details", { open: "" }, el("summary", {}, "Answer of the frozen reader"),
    el("p", { class: "dim" }, `It saw ${saw} and the scratchpad of this step.`), long(reading.answer || "(empty)", "raw"));
}

// What a server with a reasoning parser returned apart from the response.
function reasoningOf(step) {
  const reasoning = step.completions.map((one) => one.reasoning).filter(Boolean).join("\n");
  return reasoning ? el("details", {}, el("summary", {}, "Reasoning"), long(reasoning, "raw")) : null;
}

function readNext(episode, number) {
  const next = episode.steps[number + 1]?.seen ?? episode.final;
  const count = next.memories.length;
  const ids = next.memories.map((entry) => entry.id).join(", ");
  return el("p", { class: "dim" }, count === 0 ? "The read found nothing." : `The read found entries ${ids}; shown in the next step.`);
}

// What the operation earned of the reward, where the record says it (HindsightCredit).
function creditOf({ credit }) {
  if (typeof credit !== "number") return null;
  return el("span", { class: `credit${credit > 0 ? " earned" : ""}`, title: "its share of the reward, in hindsight" }, ` credit ${score(credit)}`);
}

function operationOf(operation, step, episode, number) {
  const { kind, outcome, reason, detail } = operation;
  const text = operation.text ?? operation.query;
  const id = operation.entry_id ?? operation.id;
  const update = kind === "update" && outcome !== "rejected" ? step.updated.find((entry) => entry.id === operation.entry_id) : null;
  return el("li", { class: `${kind} ${outcome}` },
    el("span", { class: "head" },
      el("i", { class: outcome === "rejected" ? "rejected" : kind, "aria-hidden": "true" }, outcome === "rejected" ? "!" : SIGNS[kind] ?? "\u00b7"),
      el("b", {}, kind), id !== null && id !== undefined ? ` ${id}` : null,
      creditOf(operation),
      outcome === "applied" ? null : el("span", { class: "reason" }, ` ${outcome}: ${reason}`)),
    detail ? el("p", { class: "detail" }, detail) : null,
    update || text
      ? el("div", { class: "text", dir: "auto" }, update ? difference(update.before, update.after) : text)
      : null,
    worthOf(episode, number, operation.position),
  );
}

function memoryPanel(episode, step, number) {
  const live = episode.memories[number];
  const scores = new Map(step.seen.memories.map((entry) => [entry.id, entry.score]));
  const created = new Set(step.created.map((entry) => entry.id));
  const updated = new Map(step.updated.map((entry) => [entry.id, entry]));
  const text = (value) => marked(value, episode.evidence, { hints: true });
  const changed = [
    ...step.updated.map((entry) => entryOf(entry.id, difference(entry.before, entry.after), "updated")),
    ...step.created.map((entry) => entryOf(entry.id, text(entry.text), "created")),
    ...step.deleted.map((entry) => entryOf(entry.id, text(entry.text), "deleted")),
  ];
  // What the step could see comes first.
  const rest = [...live]
    .filter(([id]) => !created.has(id) && !updated.has(id))
    .sort(([a], [b]) => scores.has(b) - scores.has(a) || a - b);
  const changes = [[step.created, "+"], [step.updated, "~"], [step.deleted, "\u2212"]]
    .map(([entries, sign]) => (entries.length > 0 ? ` ${sign}${entries.length}` : ""))
    .join("");
  return panel("memory", "Memory after it",
    scratchpadOf(episode, step),
    part([plural(live.size, "entry", "entries"), el("span", { class: "dim" }, changes)],
      el("ol", { class: "entries" }, changed,
        rest.map(([id, value]) =>
          scores.has(id) ? entryOf(id, text(value), "read", score(scores.get(id))) : entryOf(id, text(value), "kept")))),
  );
}

function scratchpadOf(episode, step) {
  if (step.scratchpad) {
    const { before, after } = step.scratchpad;
    return part("Scratchpad, rewritten", long(before ? difference(before, after) : marked(after, episode.evidence, { hints: true })));
  }
  return step.seen.scratchpad ? part("Scratchpad", long(marked(step.seen.scratchpad, episode.evidence, { hints: true }))) : null;
}

const ENTRY_STATES = { created: "+", updated: "~", deleted: "\u2212", read: "\u25c9", kept: "" };
const ENTRY_WORDS = { created: "created", updated: "updated", deleted: "deleted", read: "shown in this step", kept: "" };

function entryOf(id, content, state, value = null) {
  return el("li", { class: state },
    el("span", { class: "id", title: ENTRY_WORDS[state] || null },
      el("i", { "aria-hidden": "true" }, ENTRY_STATES[state]), ` ${id}`,
      el("span", { class: "unseen" }, ` ${ENTRY_WORDS[state]}`),
      value === null ? null : el("span", { class: "score", title: "cosine similarity" }, value)),
    el("span", { class: "text", dir: "auto" }, content));
}
