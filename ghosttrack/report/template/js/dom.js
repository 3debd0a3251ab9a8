// What every other module builds pages with; text is only ever set as text.

/**
 * @param {string} name
 * @param {string} [className]
 * @param {string} [text]
 * @returns {HTMLElement}
 */
export function html(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/**
 * Look an element up that the page may lack.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T | null}
 */
export function byId(id) {
  return /** @type {T | null} */ (document.getElementById(id));
}

/** @param {number | null} value */
export function percent(value) {
  return value === null ? "n/a" : Math.round(100 * value) + " %";
}

/** Let what is drawn be pointed at, and arrow keys go from one to the next. @param {SVGElement[]} drawn @param {(at: number) => void} look */
export function stepThrough(drawn, look) {
  drawn.forEach((one, at) => {
    one.setAttribute("tabindex", at ? "-1" : "0");
    one.addEventListener("pointerenter", () => look(at));
    one.addEventListener("focus", () => look(at));
    one.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      drawn[(at + step + drawn.length) % drawn.length].focus();
    });
  });
}
