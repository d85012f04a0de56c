// Where in the page we are, and the keys that lead elsewhere. The address (#episode/step) is the only state.

const place = { episode: null, step: 0 };
let shown = null;

const KEYS = [
  ["j  k", "next, previous episode of the list (in the list also \u2193 \u2191)"],
  ["\u2190  \u2192", "previous, next step"],
  ["Home  End", "first, last step"],
  ["e  E", "next, previous step whose chunk holds evidence"],
  ["n  N", "next, previous step that changed memory"],
  ["p", "observation or prompt"],
  ["/", "search"],
  ["t", "light or dark"],
  ["Esc", "leave the search, close this"],
  ["?", "this list"],
];

function readAddress() {
  const parts = location.hash.match(/^#(\d+)(?:\/(\d+))?$/);
  if (!parts || Number(parts[1]) >= EPISODES.length) return found.length > 0 ? { episode: found[0].number, step: 0 } : null;
  return { episode: Number(parts[1]), step: Number(parts[2] ?? 0) };
}

async function follow() {
  const wanted = readAddress();
  if (wanted === null) return;
  const another = wanted.episode !== place.episode;
  Object.assign(place, wanted);
  if (another) {
    // Until it is unpacked no step can be shown, neither of this episode nor of the one before.
    shown = null;
    markCurrent();
    byId("main").setAttribute("aria-busy", "true");
    try {
      const episode = await episodeOf(wanted.episode);
      // Someone may have gone on meanwhile.
      if (place.episode !== wanted.episode) return;
      shown = episode;
    } catch (error) {
      const why = "the page is damaged, or the browser too old for DecompressionStream";
      fill(byId("episode"), el("p", { class: "notice" }, `This episode cannot be unpacked (${error.message}): ${why}.`));
      throw error;
    } finally {
      byId("main").removeAttribute("aria-busy");
    }
    showEpisode(EPISODES[place.episode], shown);
    scrollTo(0, 0);
  }
  show();
}

function show() {
  if (shown === null) return;
  place.step = Math.max(0, Math.min(shown.steps.length - 1, place.step));
  const opened = byId("step").querySelector(".memory");
  const scrolled = opened ? opened.scrollTop : 0;
  showStep(shown, place.step);
  const memory = byId("step").querySelector(".memory");
  if (memory) memory.scrollTop = scrolled;
  document.title = `${EPISODES[place.episode].agent} ${place.episode}/${place.step} \u00b7 ${INDEX.title}`;
}

// Steps replace the address, so that "back" leads to the episode before and not through every step.
function goToStep(step) {
  if (shown === null) return;
  const target = Math.max(0, Math.min(shown.steps.length - 1, step));
  history.replaceState(null, "", `#${place.episode}/${target}`);
  follow();
}

function goToEpisode(number) {
  if (number === null || number === place.episode) return;
  location.hash = `#${number}`;
  // The event of the new address comes later; the next key may come before it.
  follow();
}

function goToNext(offset, wanted) {
  if (shown === null) return;
  for (let step = place.step + offset; step >= 0 && step < shown.steps.length; step += offset) {
    if (wanted(step)) {
      goToStep(step);
      return;
    }
  }
}

const changed = (number) => {
  const step = shown.steps[number];
  return step.created.length + step.updated.length + step.deleted.length > 0 || step.scratchpad !== null;
};

const ACTIONS = {
  j: () => goToEpisode(neighbour(1)),
  k: () => goToEpisode(neighbour(-1)),
  ArrowDown: () => goToEpisode(neighbour(1)),
  ArrowUp: () => goToEpisode(neighbour(-1)),
  ArrowRight: () => goToStep(place.step + 1),
  ArrowLeft: () => goToStep(place.step - 1),
  Home: () => goToStep(0),
  End: () => goToStep(Infinity),
  e: () => goToNext(1, (number) => holdsEvidence(shown, number)),
  E: () => goToNext(-1, (number) => holdsEvidence(shown, number)),
  n: () => goToNext(1, changed),
  N: () => goToNext(-1, changed),
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
buildFilters();
search();
follow();
// For tests: how much work the page has done so far.
Object.defineProperty(window, "atommemWork", { value: work });
