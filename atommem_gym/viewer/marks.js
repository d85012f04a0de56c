// Marks in texts: evidence, and what an update changed.

const CUT_SHOWN = 24;

// Where evidence stands in a text, word for word; also a part of it that a chunk's border cuts off.
function exactMarks(text, evidence) {
  const marks = [];
  evidence.forEach((questionEvidence, question) => {
    for (const { text: wanted } of questionEvidence) {
      if (!wanted) continue;
      let found = false;
      for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
        marks.push({ start: at, end: at + wanted.length, kind: "exact", question });
        found = true;
      }
      if (!found) marks.push(...cutMarks(text, wanted, question));
    }
  });
  return marks;
}

function cutMarks(text, wanted, question) {
  for (let length = Math.min(wanted.length - 1, text.length); length >= CUT_SHOWN; length -= 1) {
    if (text.endsWith(wanted.slice(0, length))) {
      return [{ start: text.length - length, end: text.length, kind: "exact", question }];
    }
    if (text.startsWith(wanted.slice(-length))) return [{ start: 0, end: length, kind: "exact", question }];
  }
  return [];
}

// Where title and hop answer of evidence both occur: a heuristic, since policies paraphrase.
function hintMarks(text, evidence) {
  const marks = [];
  const lower = text.toLowerCase();
  evidence.forEach((questionEvidence, question) => {
    for (const { title, hop_answer: hop } of questionEvidence) {
      const words = [title, hop].map((word) => word.toLowerCase()).filter(Boolean);
      if (words.length < 2 || !words.every((word) => lower.includes(word))) continue;
      // Lower case may change a text's length (as of a dotted capital I); then nothing is marked.
      if (lower.length !== text.length) continue;
      for (const word of words) {
        for (let at = lower.indexOf(word); at >= 0; at = lower.indexOf(word, at + word.length)) {
          marks.push({ start: at, end: at + word.length, kind: "hint", question });
        }
      }
    }
  });
  return marks;
}

// A text with its marks; where two overlap the one that begins first, and then the longer one, wins.
function marked(text, evidence, { hints = false } = {}) {
  const marks = exactMarks(text, evidence);
  if (hints && marks.length === 0) marks.push(...hintMarks(text, evidence));
  marks.sort((a, b) => a.start - b.start || b.end - a.end);
  const parts = [];
  let at = 0;
  for (const mark of marks) {
    if (mark.start < at) continue;
    parts.push(text.slice(at, mark.start));
    const what = mark.kind === "exact" ? "Evidence" : "Title or hop answer of evidence";
    const of = evidence.length > 1 ? ` of question ${mark.question + 1}` : "";
    parts.push(el("mark", { class: mark.kind, title: `${what}${of}` }, text.slice(mark.start, mark.end)));
    at = mark.end;
  }
  parts.push(text.slice(at));
  return parts;
}

const DIFF_CELLS = 400000;

// Before and after, word by word; beyond a size the whole texts are shown as removed and added.
function difference(before, after) {
  const a = before.match(/\s+|[^\s]+/g) ?? [];
  const b = after.match(/\s+|[^\s]+/g) ?? [];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail += 1;
  const runs = [["same", a.slice(0, head)]];
  runs.push(...middle(a.slice(head, a.length - tail), b.slice(head, b.length - tail)));
  runs.push(["same", a.slice(a.length - tail)]);
  return runs
    .filter(([, words]) => words.length > 0)
    .map(([kind, words]) => (kind === "same" ? words.join("") : el(kind, {}, words.join(""))));
}

// The longest common subsequence of what differs.
function middle(a, b) {
  if (a.length * b.length > DIFF_CELLS) return [["del", a], ["ins", b]];
  const width = b.length + 1;
  const lengths = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] =
        a[i] === b[j]
          ? lengths[(i + 1) * width + j + 1] + 1
          : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  const runs = [];
  const add = (kind, word) => {
    if (runs.length > 0 && runs.at(-1)[0] === kind) runs.at(-1)[1].push(word);
    else runs.push([kind, [word]]);
  };
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      add("same", a[i]);
      i += 1;
      j += 1;
    } else if (j === b.length || (i < a.length && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1])) {
      add("del", a[i]);
      i += 1;
    } else {
      add("ins", b[j]);
      j += 1;
    }
  }
  return runs;
}
