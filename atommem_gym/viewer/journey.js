// What became of each piece of evidence: when it was read, stored, lost and shown again.

const ARTICLES = /\b(?:a|an|the)\b/g;
const PUNCTUATION = /[!-/:-@[-`{-~]/g;

const normalised = (text) =>
  text.toLowerCase().replace(PUNCTUATION, "").replace(ARTICLES, " ").split(/\s+/).join(" ").trim();

// Contained word for word, or title and hop answer both there (the same heuristic as that of the failure causes).
function bears(wanted) {
  const [whole, title, hop] = [wanted.text, wanted.title, wanted.hop_answer].map(normalised);
  return (text) => Boolean((whole && text.includes(whole)) || (title && hop && text.includes(title) && text.includes(hop)));
}

function journeysOf(episode) {
  const cache = new Map();
  const plain = (text) => {
    if (!cache.has(text)) cache.set(text, normalised(text));
    return cache.get(text);
  };
  return episode.evidence.map((ofQuestion) => ofQuestion.map((wanted) => journeyOf(episode, wanted, plain)));
}

function journeyOf(episode, wanted, plain) {
  const bearing = bears(wanted);
  const holds = (text) => bearing(plain(text));
  const journey = { title: wanted.title, text: wanted.text, read: [], stored: [], lost: [], shown: [] };
  const living = new Set();
  // An agent without memory saw what its prompts held, word for word (as the failure causes have it).
  const blank = episode.keywords.storage === false && episode.keywords.scratchpad === false;
  const whole = normalised(wanted.text);
  const prompted = (step) => whole && (step.messages ?? []).some((message) => plain(message.content).includes(whole));
  episode.steps.forEach((step, number) => {
    if (exactMarks(step.seen.chunk, [[wanted]]).length > 0) journey.read.push(number);
    const seen = blank ? prompted(step) : step.seen.memories.some((entry) => holds(entry.text)) || holds(step.seen.scratchpad);
    if (seen && step.seen.phase === 1) journey.shown.push(number);
    const before = living.size;
    for (const entry of step.deleted) living.delete(entry.id);
    for (const entry of step.updated) living.delete(entry.id);
    for (const [id, text] of [
      ...step.created.map((entry) => [entry.id, entry.text]),
      ...step.updated.map((entry) => [entry.id, entry.after]),
      ...(step.scratchpad ? [["scratchpad", step.scratchpad.after]] : []),
    ]) {
      if (holds(text)) living.add(id);
      else living.delete(id);
    }
    if (before === 0 && living.size > 0) journey.stored.push({ step: number, where: [...living][0] });
    if (before > 0 && living.size === 0) journey.lost.push(number);
  });
  return journey;
}
