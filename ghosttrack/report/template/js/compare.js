// Rows that are chosen by a click stand side by side below their table, with what differs.
import { html } from "./dom.js";
import { valueOf } from "./tables.js";

/** What a number is more or less than the first one, with as many digits. @param {Element} cell @param {Element} first */
function differenceOf(cell, first) {
  const [value, base] = [valueOf(cell), valueOf(first)];
  if (cell === first || typeof value !== "number" || typeof base !== "number" || !Number.isFinite(value - base)) return "";
  const digits = /\.(\d+)/.exec(first.textContent ?? "")?.[1].length ?? 0, change = value - base;
  return ` (${change < 0 ? "−" : "+"}${Math.abs(change).toFixed(digits)})`;
}

/** @param {string[]} names @param {HTMLTableRowElement[]} rows */
function sideBySide(names, rows) {
  const table = html("table"), alike = /** @type {string[]} */ ([]);
  names.forEach((name, column) => {
    const cells = rows.map((row) => row.cells[column]), texts = cells.map((cell) => (cell.textContent ?? "").trim());
    if (column && new Set(texts).size === 1) {
      if (texts[0]) alike.push(`${name} ${texts[0]}`);
      return;
    }
    const line = html("tr");
    line.append(html("th", "", name));
    cells.forEach((cell, i) => {
      const shown = html(column ? "td" : "th", "wrap", texts[i]);
      shown.append(html("span", "soft", differenceOf(cell, cells[0])));
      line.append(shown);
    });
    table.append(line);
  });
  const said = alike.length ? `The same in all: ${alike.join(", ")}. ` : "";
  return [table, html("p", "soft", `${said}In brackets: less the first one chosen.`)];
}

/** @param {HTMLTableElement} table */
function makeComparable(table) {
  const names = [...table.rows[0].cells].map((head) => (head.textContent ?? "").trim());
  const chosen = /** @type {Set<HTMLTableRowElement>} */ (new Set()), rows = [...table.rows].slice(1);
  const box = html("div", "scroll"), hint = html("p", "soft", "Click rows to set them side by side.");
  for (const [name, value] of [["role", "region"], ["tabindex", "0"], ["aria-label", "rows side by side"]]) box.setAttribute(name, value);
  table.parentElement?.after(box);
  box.append(hint);
  for (const row of rows) {
    const tick = /** @type {HTMLInputElement} */ (html("input"));
    tick.type = "checkbox";
    tick.setAttribute("aria-label", `set ${(row.cells[0].textContent ?? "").trim()} beside others`);
    row.cells[0].prepend(tick, " ");
    row.addEventListener("click", (event) => {
      if (/** @type {Element} */ (event.target).closest("a")) return;
      if (event.target !== tick) tick.checked = !tick.checked;
      chosen[tick.checked ? "add" : "delete"](row);
      row.classList.toggle("chosen", tick.checked);
      box.replaceChildren(...(chosen.size > 1 ? sideBySide(names, [...chosen]) : [hint]));
    });
  }
}

/** Let every table of a review that has several rows be compared. */
export function setUpComparison() {
  for (const table of document.querySelectorAll("table.comparable")) makeComparable(/** @type {HTMLTableElement} */ (table));
}
