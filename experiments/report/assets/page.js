"use strict";

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

function keyOf(row, column, isNumeric) {
  const cell = row.cells[column];
  if (!isNumeric) return cell.textContent.trim();
  return cell.dataset.value === undefined ? "" : Number(cell.dataset.value);
}

// Rows whose cell is empty stay at the end, whichever way the others go.
function sort(table, column) {
  const header = table.tHead.rows[0].cells[column];
  const isNumeric = header.classList.contains("n");
  const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const compare = isNumeric ? (a, b) => a - b : collator.compare;
  const rows = Array.from(table.tBodies[0].rows, (row) => [keyOf(row, column, isNumeric), row]);
  rows.sort(([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * compare(a, b);
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
}

function makeSortable(table) {
  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(table, column));
    header.append(button);
  });
}

function makeFilter(box) {
  const table = box.querySelector("table");
  const rows = Array.from(table.tBodies[0].rows, (row) => [row.textContent.toLowerCase(), row]);
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("output");
  const form = document.createElement("div");
  input.type = "search";
  label.append("Show the rows with ", input);
  form.className = "filter";
  form.append(label, " ", count);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const [text, row] of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
  });
  box.before(form);
}

async function copy(button) {
  const code = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // Some browsers have no clipboard for files from disk.
    getSelection().selectAllChildren(code);
    document.execCommand("copy");
  }
  const before = Array.from(button.childNodes);
  button.replaceChildren("Copied");
  setTimeout(() => button.replaceChildren(...before), 1500);
}

// A link leads into what is folded.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let each = target; each; each = each.parentElement) {
    if (each instanceof HTMLDetailsElement) each.open = true;
  }
  target.scrollIntoView();
  target.querySelector(":scope > summary")?.focus();
}

// Paper cannot be unfolded.
let folded = [];
function unfold() {
  if (folded.length) return;
  folded = Array.from(document.querySelectorAll("details:not([open])"));
  for (const each of folded) each.open = true;
}
function fold() {
  for (const each of folded) each.open = false;
  folded = [];
}

document.querySelectorAll("table").forEach(makeSortable);
document.querySelectorAll("[data-filter]").forEach(makeFilter);
document.querySelectorAll("button.copy").forEach((button) => {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
});
addEventListener("hashchange", reveal);
addEventListener("beforeprint", unfold);
addEventListener("afterprint", fold);
matchMedia("print").addEventListener("change", (print) => (print.matches ? unfold() : fold()));
reveal();
