// Where in the page we are, and the keys that lead elsewhere. The address (#episode/step) is the only state.

const place = { episode: null, other: null, front: null, step: 0 };
// The episodes that are shown: one, two side by side, or none before they are there.
let shown = null;

const KEYS = [
  ["j  k", "next, previous episode of the list (in the list also \u2193 \u2191)"],
  ["\u2190  \u2192", "previous, next step"],
  ["Home  End", "first, last step"],
  ["e  E", "next, previous step whose chunk holds evidence"],
  ["n  N", "next, previous step that changed memory"],
  ["d  D", "side by side: next, previous step that differs"],
  ...(VALUED.length > 0 ? [["w  W", "next, previous step with an operation that changed the reward"]] : []),
  ["p", "observation or prompt"],
  ["/", "search"],
  ["t", "light or dark"],
  ["Esc", "leave the search, close this"],
  ["?", "this list"],
];

function readAddress() {
  const none = { episode: null, other: null, front: null, step: 0 };
  const front = location.hash.match(/^#([a-z]+)(?:\/(\d+))?$/);
  if (front && FRONTS.includes(front[1])) return { ...none, front: front[1], step: Number(front[2] ?? 0) };
  const parts = location.hash.match(/^#(\d+)(?:~(\d+))?(?:\/(\d+))?$/);
  const there = (number) => number === undefined || Number(number) < EPISODES.length;
  if (parts && there(parts[1]) && there(parts[2])) {
    const other = parts[2] === undefined || parts[2] === parts[1] ? null : Number(parts[2]);
    return { ...none, episode: Number(parts[1]), other, step: Number(parts[3] ?? 0) };
  }
  // Who had values put to an episode wants to see them.
  if (VALUED.length > 0 && !location.hash) return { ...none, episode: VALUED[0].number };
  if (FRONTS.length > 0 && !location.hash) return { ...none, front: FRONTS[0] };
  return found.length > 0 ? { ...none, episode: found[0].number } : { ...none, front: FRONTS[0] ?? null };
}

async function follow() {
  const wanted = readAddress();
  const another = ["episode", "other", "front"].some((name) => wanted[name] !== place[name]);
  const turned = wanted.front !== null && wanted.step !== place.step;
  Object.assign(place, wanted);
  if (another || turned) {
    // Until it is unpacked no step can be shown, neither of this episode nor of the one before.
    shown = null;
    markCurrent();
    byId("main").setAttribute("aria-busy", "true");
    const asked = { ...wanted };
    const still = () => ["episode", "other", "front"].every((name) => asked[name] === place[name]);
    try {
      const numbers = [wanted.episode, wanted.other].filter((number) => number !== null);
      const made = wanted.front === null ? await Promise.all(numbers.map(episodeOf)) : await frontOf(wanted.front, wanted.step);
      // Someone may have gone on meanwhile.
      if (!still()) return;
      showPlace(made);
    } catch (error) {
      if (!still()) return;
      const why = "the page is damaged, or the browser too old for DecompressionStream";
      showPlace([]);
      fill(byId("episode"), el("p", { class: "notice" }, `This cannot be shown (${error.message}): ${why}.`));
      throw error;
    } finally {
      if (still()) byId("main").removeAttribute("aria-busy");
    }
    if (another) scrollTo(0, 0);
  }
  show();
}

// Everything but the step: what stands in front, one episode, or two.
function showPlace(made) {
  const front = place.front !== null;
  byId("front").hidden = !front;
  for (const id of ["episode", "timeline", "step"]) byId(id).hidden = front;
  for (const id of ["front", "episode", "timeline", "step"]) fill(byId(id));
  if (front) {
    fill(byId("front"), made);
    document.title = `${place.front} \u00b7 ${INDEX.title}`;
  } else if (made.length > 0) {
    shown = made;
    if (place.other === null) showEpisode(EPISODES[place.episode], shown[0]);
    else showSides([EPISODES[place.episode], EPISODES[place.other]], shown);
  }
}

const stepsShown = () => Math.max(...shown.map((episode) => episode.steps.length));

function show() {
  if (shown === null) return;
  place.step = Math.max(0, Math.min(stepsShown() - 1, place.step));
  const opened = byId("step").querySelector(".memory");
  const scrolled = opened ? opened.scrollTop : 0;
  if (place.other === null) showStep(shown[0], place.step);
  else showSidesStep(shown, place.step);
  const memory = byId("step").querySelector(".memory");
  if (memory) memory.scrollTop = scrolled;
  const row = EPISODES[place.episode];
  document.title = `${row.agent} ${addressOf(place)} \u00b7 ${INDEX.title}`;
}

const addressOf = ({ episode, other, step }) => `${episode}${other === null ? "" : `~${other}`}/${step}`;

// Steps replace the address, so that "back" leads to the episode before and not through every step.
function goToStep(step) {
  if (shown === null) return;
  const target = Math.max(0, Math.min(stepsShown() - 1, step));
  history.replaceState(null, "", `#${addressOf({ ...place, step: target })}`);
  follow();
}

function goToEpisode(number) {
  if (number === null || number === place.episode) return;
  // Side by side stays side by side, if the next one has a partner.
  const other = place.other === null ? null : partnerOf(EPISODES[number], EPISODES[place.other]);
  location.hash = other === null ? `#${number}` : `#${number}~${other.number}`;
  // The event of the new address comes later; the next key may come before it.
  follow();
}

function goToNext(offset, wanted) {
  if (shown === null) return;
  for (let step = place.step + offset; step >= 0 && step < stepsShown(); step += offset) {
    if (wanted(step)) {
      goToStep(step);
      return;
    }
  }
}

const changed = (number) => shown.some(({ steps: { [number]: step } }) =>
  step && (step.created.length + step.updated.length + step.deleted.length > 0 || step.scratchpad !== null));
const evident = (number) => shown.some((episode) => holdsEvidence(episode, number));
const worthy = (number) => shown.some((episode) => largestWorth(episode, number) !== 0);
const differs = (number) => shown.length === 2 && stepsThatDiffer(shown).includes(number);

const ACTIONS = {
  j: () => goToEpisode(neighbour(1)),
  k: () => goToEpisode(neighbour(-1)),
  ArrowDown: () => goToEpisode(neighbour(1)),
  ArrowUp: () => goToEpisode(neighbour(-1)),
  ArrowRight: () => goToStep(place.step + 1),
  ArrowLeft: () => goToStep(place.step - 1),
  Home: () => goToStep(0),
  End: () => goToStep(Infinity),
  e: () => goToNext(1, evident),
  E: () => goToNext(-1, evident),
  n: () => goToNext(1, changed),
  N: () => goToNext(-1, changed),
  d: () => goToNext(1, differs),
  D: () => goToNext(-1, differs),
  w: () => goToNext(1, worthy),
  W: () => goToNext(-1, worthy),
  p: () => {
    seenTab = seenTab === "prompt" ? "observation" : "prompt";
    show();
  },
  "/": () => byId("search").select(),
  t: switchTheme,
  "?": openHelp,
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  if (target instanceof HTMLElement && target.matches("input, select, textarea")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  if (byId("help").open) {
    if (event.key === "?") byId("help").close();
    return;
  }
  const scrolling = event.key === "ArrowUp" || event.key === "ArrowDown";
  if (scrolling && !byId("list").contains(target)) return;
  if (event.shiftKey && /^(Home|End|Arrow)/.test(event.key)) return;
  if (Object.hasOwn(ACTIONS, event.key)) {
    event.preventDefault();
    ACTIONS[event.key]();
  }
}

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

function openHelp() {
  fill(byId("help"),
    el("h2", { id: "help-title" }, "Keys"),
    el("dl", {}, KEYS.map(([keys, what]) => [
      el("dt", {}, keys.split("  ").map((key) => [el("kbd", {}, key), " "])), el("dd", {}, what)])),
    el("button", { type: "button", on: { click: () => byId("help").close() } }, "Close"),
  );
  byId("help").showModal();
}

document.addEventListener("keydown", onKey);
window.addEventListener("hashchange", follow);
byId("theme").addEventListener("click", switchTheme);
byId("help-button").addEventListener("click", openHelp);
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
fill(byId("title"), INDEX.title);
buildFrontLinks();
buildFilters();
byId("filters").hidden = EPISODES.length === 0;
search();
follow();
// For tests: how much work the page has done so far.
Object.defineProperty(window, "atommemWork", { value: work });
