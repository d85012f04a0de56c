// The little of Markdown that reports are written in, as elements; links and HTML stay the text that they are.

function markdownOf(text, pictureOf) {
  const lines = text.split("\n");
  const made = [];
  for (let at = 0; at < lines.length; ) {
    const line = lines[at];
    const heading = /^(#{1,6}) (.*)$/.exec(line);
    const picture = /^!\[([^\]]*)\]\(([^()\s]+)\)$/.exec(line.trim());
    if (!line.trim()) {
      at += 1;
    } else if (heading) {
      made.push(el(heading[1].length < 3 ? "h3" : "h4", {}, heading[2]));
      at += 1;
    } else if (picture) {
      made.push(pictureOf(picture[2], picture[1]));
      at += 1;
    } else if (/^\|.*\|\s*$/.test(line) && /^\|[\s:|-]+\|\s*$/.test(lines[at + 1] ?? "")) {
      let end = at + 2;
      while (end < lines.length && /^\|.*\|\s*$/.test(lines[end])) end += 1;
      made.push(tableOf(cellsOf(line), lines.slice(at + 2, end).map(cellsOf), cellsOf(lines[at + 1]).map((cell) => cell.endsWith(":"))));
      at = end;
    } else {
      const listed = line.startsWith("- ");
      let end = at + 1;
      while (end < lines.length && lines[end].trim() && lines[end].startsWith("- ") === listed && !/^[#|]/.test(lines[end])) end += 1;
      const paragraph = lines.slice(at, end);
      made.push(listed
        ? el("ul", { class: "listed" }, paragraph.map((one) => el("li", {}, inlineOf(one.slice(2)))))
        : el("p", {}, inlineOf(paragraph.join(" "))));
      at = end;
    }
  }
  return made;
}

const cellsOf = (line) => line.trim().slice(1, -1).split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));

// Only marks around text without such marks; what is not understood is shown as it stands.
function inlineOf(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*)/).map((part) => {
    if (/^`.+`$/.test(part)) return el("code", {}, part.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(part)) return el("b", {}, part.slice(2, -2));
    return /^\*.+\*$/.test(part) ? el("em", {}, part.slice(1, -1)) : part;
  });
}

// A table that scrolls by itself where it is wider than the page.
function tableOf(headers, rows, numeric = []) {
  const cell = (tag, value, column) =>
    el(tag, { class: numeric[column] ? "number" : null }, typeof value === "string" ? inlineOf(value) : value);
  return el("div", { class: "table", tabindex: "0" }, el("table", {},
    el("thead", {}, el("tr", {}, headers.map((header, column) => cell("th", header, column)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((value, column) => cell("td", value, column)))))));
}
