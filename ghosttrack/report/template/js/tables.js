// Tables that are sorted by a click on a column's name, searched, and filtered by one column.
import { html } from "./dom.js";

/**
 * The number that a cell begins with, its sign and a dash heeded; a text where there is none.
 * @param {Element | undefined} cell
 * @returns {number | string}
 */
export function valueOf(cell) {
  const text = (cell?.textContent ?? "").trim();
  const found = /^[+-]?\d[\d,]*\.?\d*(e[+-]?\d+)?/.exec(text);
  if (found) return Number(found[0].replaceAll(",", ""));
  return text === "–" || text.startsWith("– [") ? -Infinity : text.toLowerCase();
}

/** @param {number | string} a @param {number | string} b */
function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return typeof a === typeof b ? String(a).localeCompare(String(b)) : typeof a === "number" ? -1 : 1;
}

/** @param {HTMLTableElement} table @param {number} column */
function sort(table, column) {
  const heads = [...table.rows[0].cells];
  const falls = heads[column].getAttribute("aria-sort") === "descending";
  const rows = [...table.rows].slice(1).map((row) => ({ row, value: valueOf(row.cells[column]) }));
  rows.sort((a, b) => compare(a.value, b.value) * (falls ? 1 : -1));
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", falls ? "ascending" : "descending");
  for (const { row } of rows) row.parentElement?.append(row);
}

/** @param {HTMLTableElement} table */
function makeSortable(table) {
  [...table.rows[0].cells].forEach((head, column) => {
    if (!head.textContent?.trim()) return;
    const button = html("button");
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, column));
    head.append(button);
  });
}

/** Rows that hold the searched words and are of the chosen group. @param {HTMLElement} controls */
function makeSearchable(controls) {
  const table = /** @type {HTMLTableElement} */ (document.getElementById(controls.dataset.for ?? ""));
  const search = /** @type {HTMLInputElement} */ (controls.querySelector("input"));
  const group = /** @type {HTMLSelectElement | null} */ (controls.querySelector("select"));
  const rows = [...table.rows].slice(1);
  const column = Number(group?.dataset.column);
  const names = group ? rows.map((row) => row.cells[column].textContent ?? "") : [];
  for (const name of [...new Set(names)].sort()) group?.append(new Option(name, name));
  const status = html("span", "soft");
  status.setAttribute("role", "status");
  controls.append(status);
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const text = (row.textContent ?? "").toLowerCase();
      const fits = words.every((word) => text.includes(word))
        && (!group?.value || row.cells[column].textContent === group.value);
      row.hidden = !fits;
      n += Number(fits);
    }
    status.textContent = `${n} of ${rows.length}`;
  };
  search.addEventListener("input", filter);
  group?.addEventListener("change", filter);
  filter();
}

/** What a reader with a keyboard or a screen reader needs of every table that scrolls. */
export function setUpTables() {
  for (const [at, box] of [...document.querySelectorAll(".scroll")].entries()) {
    box.setAttribute("tabindex", "0");
    box.setAttribute("role", "region");
    const heading = box.closest("section, details")?.querySelector("h2, summary");
    box.setAttribute("aria-label", `${box.querySelector("table") ? "table" : "picture"} ${at + 1}, ${(heading?.textContent ?? "this page").trim()}`);
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    makeSortable(/** @type {HTMLTableElement} */ (table));
  }
  for (const controls of document.querySelectorAll(".table-controls")) {
    makeSearchable(/** @type {HTMLElement} */ (controls));
  }
}

/** Sections open where a link leads into them, and all of them for the printer. */
export function setUpSections() {
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let box = target?.closest("details"); box; box = box.parentElement?.closest("details")) box.open = true;
    target?.scrollIntoView();
  };
  addEventListener("hashchange", open);
  addEventListener("beforeprint", () => {
    for (const box of document.querySelectorAll("details")) box.open = true;
  });
  if (location.hash) open();
}
