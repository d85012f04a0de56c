// The page's data: an index read at once, episodes and shared texts unpacked when they are first looked at.

const INDEX = JSON.parse(byId("index").textContent);
const EPISODES = INDEX.episodes.map((row, number) => ({ ...row, number }));
// Of some episodes it is known what their operations were worth.
const VALUED = EPISODES.filter((row) => row.valued);
const EPISODES_KEPT = 4;
const BLOCKS_KEPT = 64;
// For whoever tests or measures the page: how much was unpacked so far.
const work = { episodes: 0, blocks: 0, rows: 0, bytes: 0 };

async function unpack(name) {
  const stream = new Blob([await bytesOf(name)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// Remembers the results used last; a promise is kept, so that asking twice unpacks once.
function remembering(kept, load) {
  const found = new Map();
  return (key) => {
    const known = found.get(key) ?? load(key);
    found.delete(key);
    found.set(key, known);
    if (found.size > kept) found.delete(found.keys().next().value);
    return known;
  };
}

const textBlock = remembering(BLOCKS_KEPT, (number) => {
  work.blocks += 1;
  return unpack(`texts-${number}`);
});

// The block that holds a piece is the last one whose first piece is not after it.
function blockOf(piece) {
  let low = 0;
  let high = INDEX.firsts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (INDEX.firsts[middle] <= piece) low = middle;
    else high = middle - 1;
  }
  return low;
}

const isShared = (value) => value !== null && typeof value === "object" && Array.isArray(value.$);

function piecesIn(value, found = new Set()) {
  if (isShared(value)) {
    for (const part of value.$) if (typeof part === "number") found.add(part);
  } else if (value !== null && typeof value === "object") {
    for (const inner of Object.values(value)) piecesIn(inner, found);
  }
  return found;
}

function joined(value, texts) {
  if (isShared(value)) return value.$.map((part) => (typeof part === "number" ? texts.get(part) : part)).join("");
  if (Array.isArray(value)) return value.map((inner) => joined(inner, texts));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, joined(inner, texts)]));
}

async function loadEpisode(number) {
  work.episodes += 1;
  const episode = await unpack(`episode-${number}`);
  const pieces = [...piecesIn([episode.steps, episode.final, episode.initial])].sort((a, b) => a - b);
  const texts = new Map();
  for (const piece of pieces) {
    const block = blockOf(piece);
    texts.set(piece, (await textBlock(block))[piece - INDEX.firsts[block]]);
  }
  episode.steps = joined(episode.steps, texts);
  episode.final = joined(episode.final, texts);
  episode.initial = joined(episode.initial, texts);
  episode.memories = memoryAfterEachStep(episode);
  episode.journeys = journeysOf(episode);
  return episode;
}

const episodeOf = remembering(EPISODES_KEPT, loadEpisode);

// Live entries after every step, as maps from id to text; a step that changes nothing shares its map.
function memoryAfterEachStep(episode) {
  let live = new Map(episode.initial.map((entry) => [entry.id, entry.text]));
  return episode.steps.map((step) => {
    if (step.created.length + step.updated.length + step.deleted.length === 0) return live;
    live = new Map(live);
    for (const entry of step.deleted) live.delete(entry.id);
    for (const entry of step.updated) live.set(entry.id, entry.after);
    for (const entry of step.created) live.set(entry.id, entry.text);
    return live;
  });
}
