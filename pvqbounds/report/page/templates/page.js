"use strict";

// ------------------------------------------------------------------ dark and light

const root = document.documentElement;
const button = document.getElementById("theme");
const dark = () =>
  root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

function tell() {
  button.textContent = dark() ? "Light" : "Dark";
}
try {
  const kept = localStorage.getItem("pvqbounds-theme");
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
} catch {
  // a page from a file may have no storage
}
button.hidden = false;
button.addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  try {
    localStorage.setItem("pvqbounds-theme", root.dataset.theme);
  } catch {
    // it holds for this page alone
  }
  tell();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
tell();

// ------------------------------------------------------------------ rows: found, sorted, saved

const body = document.querySelector("#rows tbody");
const rows = [...body.rows];
const field = (id) => document.getElementById(id);
const heads = [...document.querySelectorAll("#rows th[data-key]")];
const words = new Set(["layer", "format"]);

function compare(key, falling) {
  const sign = falling ? -1 : 1;
  const number = (row) => {
    const value = row.dataset[key];
    return value === "inf" ? Infinity : value === "-inf" ? -Infinity : Number(value);
  };
  return (one, other) => {
    const depth = Number(one.dataset.depth) - Number(other.dataset.depth);
    if (words.has(key)) {
      return sign * one.dataset[key].localeCompare(other.dataset[key], undefined, { numeric: true }) || depth;
    }
    const [a, b] = [number(one), number(other)];
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b) || depth; // nothing to sort by: last
    return (a === b ? 0 : sign * (a < b ? -1 : 1)) || depth;
  };
}

function update() {
  const key = field("sort").value;
  const falling = field("falling").checked;
  const sought = field("find").value.toLowerCase();
  const format = field("format").value;
  const label = field("label").value;
  let seen = 0;
  for (const row of rows.sort(compare(key, falling))) {
    const text = `${row.dataset.layer} ${row.dataset.kind}`.toLowerCase();
    const fits =
      text.includes(sought) &&
      (!format || row.dataset.format === format) &&
      (!label || row.dataset.labels.split(" ").includes(label));
    row.hidden = !fits;
    seen += fits;
    body.append(row);
  }
  for (const head of heads) {
    if (head.dataset.key === key) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  field("count").textContent = `${seen} of ${rows.length} rows`;
}

for (const id of ["find", "format", "label", "sort", "falling"]) field(id).addEventListener("input", update);
field("controls").addEventListener("submit", (event) => event.preventDefault());
for (const head of heads) {
  head.tabIndex = 0;
  const choose = () => {
    field("falling").checked = field("sort").value === head.dataset.key && !field("falling").checked;
    field("sort").value = head.dataset.key;
    update();
  };
  head.addEventListener("click", choose);
  head.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose();
    }
  });
}

function quoted(text) {
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
field("save").addEventListener("click", () => {
  const columns = ["depth", "layer", "kind", "weights", "format", "bits", "lower", "upper", "gap", "labels"];
  columns.push("estimatedLower95", "estimatedLower", "estimatedUpper", "estimatedUpper95");
  const shown = [...body.rows].filter((row) => !row.hidden);
  const lines = [columns, ...shown.map((row) => columns.map((column) => row.dataset[column] ?? ""))];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(
    new Blob([lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n"], { type: "text/csv" }),
  );
  link.download = "rows.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
field("controls").hidden = false;
update();

// ------------------------------------------------------------------ one figure of several

for (const select of document.querySelectorAll("select[data-choice]")) {
  const figures = [...document.querySelectorAll(`.choice[data-choice="${select.dataset.choice}"]`)];
  const choose = () => {
    for (const figure of figures) figure.hidden = figure.dataset.value !== select.value;
  };
  select.addEventListener("input", choose);
  select.parentElement.hidden = figures.length < 2;
  choose();
}
