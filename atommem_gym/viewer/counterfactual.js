// What operations were worth: the reward with each, and without it or with it changed (atommem counterfactual).

const signed = (value) =>
  value === null ? "?" : value > 0 ? `+${score(value)}` : value < 0 ? `\u2212${score(-value)}` : "0";
const goesOn = ({ continuation }) =>
  continuation === "recorded" ? "the recorded actions go on" : `${continuation} goes on`;
const otherwise = ({ change }) => (change === null ? "without it" : "changed");

// The values of one operation, of each file that has some; files count steps and positions from 1.
const worthsOf = (episode, number, position) => episode.counterfactuals.flatMap((file) =>
  file.operations.filter((one) => one.step === number + 1 && one.operation === position).map((one) => ({ ...one, file })));

// The largest difference of a step's operations; 0 if none is known.
function largestWorth(episode, number) {
  let largest = 0;
  for (const { operations } of episode.counterfactuals) {
    for (const { step, difference } of operations) {
      if (step === number + 1 && Math.abs(difference ?? 0) > Math.abs(largest)) largest = difference;
    }
  }
  return largest;
}

// Beside the operation: what it was worth, and how the episode ends with it and without it.
function worthOf(episode, number, position) {
  return worthsOf(episode, number, position).map((one) => el("details", { class: "worth" },
    el("summary", {}, "worth ", el("b", { class: signOf(one.difference) }, signed(one.difference)),
      one.change === null ? null : " more than changed", ` \u00b7 ${goesOn(one.file)}`),
    one.change === null ? null : el("p", { class: "detail" }, "changed: ",
      Object.entries(one.change).map(([name, value], i) => [i > 0 ? "; " : null, `${name} = `, el("q", {}, value)])),
    el("dl", {}, endingOf("with it", one.kept), endingOf(otherwise(one), one.other)),
    el("p", { class: "dim" }, `from ${one.file.name}`)));
}

const signOf = (difference) => (difference > 0 ? "up" : difference < 0 ? "down" : "even");

function endingOf(name, { reward, steps, answers, unknown }) {
  const many = answers.length > 1;
  return pair(name, [
    reward === null ? `reward unknown: ${unknown}` : `reward ${score(reward)} after ${plural(steps, "step")}`,
    answers.map(([answer, value], i) => [many ? `\nanswer ${i + 1}: ` : "\nanswer: ", answer || el("em", {}, "none"), ` (${score(value)})`])]);
}

// Above the steps: all operations of a file, with a link to each step at which a branch parts.
function worthTables(row, episode) {
  return episode.counterfactuals.map((file) => {
    const telling = file.operations.filter((one) => one.difference).length;
    const unknown = file.operations.filter((one) => one.difference === null).length;
    const headers = ["step", "op.", "worth", "with", file.operations.some((one) => one.change !== null) ? "changed" : "without", "kind", "what it said"];
    const rows = file.operations.map((one) => {
      const operation = episode.steps[one.step - 1].operations.find((held) => held.position === one.operation);
      const named = ["update", "delete"].includes(operation.kind) ? `entry ${operation.entry_id ?? operation.id ?? "?"} ` : "";
      const text = `${named}${operation.text ?? operation.query ?? ""}`;
      return [[el("a", { href: `#${row.number}/${one.step - 1}` }, one.step)], [String(one.operation)],
        [el("b", { class: signOf(one.difference) }, signed(one.difference))], [signless(one.kept.reward)], [signless(one.other.reward)],
        [operation.kind], [el("span", { class: "short", dir: "auto" }, text.slice(0, 200))]];
    });
    return el("details", { class: "worths", open: true },
      el("summary", {}, `What operations were worth (${file.name}, ${goesOn(file)}): `,
        `${telling.toLocaleString("en")} of ${file.operations.length.toLocaleString("en")} change the reward`,
        unknown === 0 ? "" : `, ${unknown.toLocaleString("en")} unknown`),
      rows.length === 0 ? null : tableOf(headers, rows, headers.map((_, column) => column < 5)));
  });
}

const signless = (value) => (value === null ? "?" : score(value));
