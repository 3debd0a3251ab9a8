// A list of answers, filtered and searched, and the one that is chosen with its tracks.
import { byId, html, percent } from "./dom.js";
import { drawTracks } from "./ribbons.js";
import { competition, reasonsOf, tokenStrip, verdictOf } from "./why.js";

/**
 * @typedef {import("./why.js").Told & { index: number, n_ghosts: number, n_linked: number, tracks: import("./ribbons.js").Track[] }} Answer
 * @typedef {import("./why.js").Judges & { layers: string[], latents: Record<string, string>, chunk: number, answers: Answer[] }} Data
 */

const MOST_LISTED = 200;
/** How each is told, and which answers it is. @type {Record<string, [string, (answer: Answer) => boolean]>} */
const KINDS = {
  "confident and wrong": ["model above 80 %", (a) => a.label === 1 && (a.prob ?? 0) > 0.8],
  "doubtful and right": ["model at most 50 %", (a) => a.label === 0 && a.prob !== null && a.prob <= 0.5],
  "wrong and missed": ["not flagged", (a) => a.label === 1 && !a.flagged],
  "right and suspected": ["flagged", (a) => a.label === 0 && a.flagged],
  "with ghosts": ["one or more", (a) => a.n_ghosts > 0],
};
/** @type {Record<string, (a: Answer, b: Answer) => number>} */
const ORDERS = {
  risk: (a, b) => b.risk - a.risk,
  prob: (a, b) => (b.prob ?? 0) - (a.prob ?? 0),
  ghosts: (a, b) => b.n_ghosts - a.n_ghosts,
  index: (a, b) => a.index - b.index,
};

/** Unpacks an answer's details once they are wanted. @param {Data} data @param {string[]} packed */
function makeReader(data, packed) {
  /** @type {Map<number, Promise<object[]>>} */
  const chunks = new Map();
  /** @param {number} place @returns {Promise<Answer>} */
  return async (place) => {
    const at = Math.floor(place / data.chunk);
    if (!chunks.has(at)) {
      const bytes = Uint8Array.from(atob(packed[at]), (character) => character.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      chunks.set(at, new Response(stream).json());
    }
    const details = await /** @type {Promise<object[]>} */ (chunks.get(at));
    return { ...data.answers[place], ...details[place % data.chunk] };
  };
}

/** @param {Answer} answer */
function entry(answer) {
  const button = html("button");
  button.append(html("b", answer.label ? "bad" : "good", percent(answer.risk) + " "), answer.prompt + " ", html("b", "", answer.text || "(nothing)"));
  const ghosts = answer.n_ghosts ? `, ${answer.n_ghosts} ghost${answer.n_ghosts > 1 ? "s" : ""}` : "";
  button.append(html("div", "soft", answer.category.replaceAll("_", " ") + ghosts));
  return button;
}

/** @param {Answer} answer @param {Data} data @param {{ every: boolean, renamed: boolean } | null} how */
function card(answer, data, how) {
  const box = html("div", "answer"), left = html("div");
  left.append(html("div", "asked", answer.prompt), tokenStrip(answer), verdictOf(answer));
  for (const note of answer.notes ?? []) left.append(html("p", "soft", note));
  if (how) left.append(drawTracks(answer.tracks, data, how));
  if (answer.hypotheses) left.append(competition(answer.hypotheses));
  box.append(left);
  if (!how?.renamed) box.append(reasonsOf(answer, data));
  return box;
}

/** Draws the chosen answer, and the one beside it. @param {Data} data @param {(place: number) => Promise<Answer>} read */
function makeStage(data, read) {
  const shown = /** @type {HTMLSelectElement | null} */ (byId("viewer-tracks"));
  const beside = /** @type {HTMLSelectElement | null} */ (byId("viewer-beside"));
  const stage = /** @type {HTMLElement} */ (byId("viewer-stage"));
  let current = 0, pinned = -1;
  async function draw() {
    const how = shown && { every: shown.value === "all", renamed: false };
    const answer = await read(current), cards = [card(answer, data, how)];
    if (beside?.value === "renamed" && how) cards.push(card(answer, data, { ...how, renamed: true }));
    if (beside?.value === "pinned" && pinned >= 0) cards.push(card(await read(pinned), data, how));
    stage.classList.toggle("two", cards.length > 1);
    stage.replaceChildren(...cards);
  }
  shown?.addEventListener("change", draw);
  beside?.addEventListener("change", () => {
    if (beside.value === "pinned") pinned = current;
    draw();
  });
  return (/** @type {number} */ place) => { current = place; return draw(); };
}

/** Fills the list by what is chosen above it. @param {Data} data @param {(place: number) => void} show */
function makeList(data, show) {
  const list = /** @type {HTMLElement} */ (byId("viewer-list")), search = /** @type {HTMLInputElement} */ (byId("viewer-search"));
  const choice = /** @type {HTMLSelectElement} */ (byId("viewer-choice")), order = /** @type {HTMLSelectElement} */ (byId("viewer-order"));
  const count = /** @type {HTMLElement} */ (byId("viewer-count"));
  for (const [name, [how, fits]] of Object.entries(KINDS)) if (data.answers.some(fits)) choice.append(new Option(`${name}: ${how}`, name));
  for (const name of [...new Set(data.answers.map((a) => a.category))].sort()) choice.append(new Option(name.replaceAll("_", " "), `category ${name}`));
  const places = new Map(data.answers.map((answer, place) => [answer, place]));
  let chosen = -1, most = MOST_LISTED;
  function fill() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), wanted = choice.value;
    const found = data.answers.filter((a) => (!wanted || (KINDS[wanted]?.[1](a) ?? wanted === `category ${a.category}`))
      && words.every((word) => `${a.prompt} ${a.text} ${a.category}`.toLowerCase().includes(word))).sort(ORDERS[order.value]);
    count.textContent = `${found.length} of ${data.answers.length}`;
    list.replaceChildren(...found.slice(0, most).map((answer) => {
      const button = entry(answer), place = /** @type {number} */ (places.get(answer));
      button.setAttribute("aria-pressed", String(place === chosen));
      button.addEventListener("click", () => pick(place, button));
      return button;
    }));
    if (found.length > most) {
      const more = html("button", "soft", `${found.length - most} more`);
      more.addEventListener("click", () => { most = Infinity; fill(); });
      list.append(more);
    }
    const at = found.findIndex((answer) => places.get(answer) === chosen);
    if (at < 0 && found.length) pick(/** @type {number} */ (places.get(found[0])), /** @type {HTMLElement} */ (list.firstChild));
  }
  /** @param {number} place @param {HTMLElement} button */
  function pick(place, button) {
    chosen = place;
    for (const other of list.children) other.setAttribute("aria-pressed", String(other === button));
    show(place);
  }
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const next = step && /** @type {Record<string, any>} */ (document.activeElement)?.[step];
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.click();
  });
  for (const control of [choice, order, search]) control.addEventListener("input", () => { most = MOST_LISTED; fill(); });
  fill();
}

/** Fill the viewer of a page that has one. */
export function setUpViewer() {
  const data = JSON.parse(byId("viewer-data")?.textContent ?? "null");
  if (!data?.answers.length) return;
  const packed = JSON.parse(byId("viewer-details")?.textContent ?? "[]");
  makeList(data, makeStage(data, makeReader(data, packed)));
}
