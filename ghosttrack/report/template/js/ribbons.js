// An answer's tracks as ribbons: layers left to right, width = magnitude, colour = the candidate
// that a track argues for.
import { html, svg } from "./dom.js";

/**
 * @typedef {{ layers: number[], latents: number[], sizes: number[], costs: (number | null)[],
 *   promotes: string, push: number, ghost?: number | null, robust?: number | null }} Track
 * @typedef {{ layers: string[], latents: Record<string, string> }} Bank
 */

const PALETTE = ["#7c5cff", "#0e8fb0", "#d97706", "#d6336c", "#5c940d", "#3b82f6", "#c2255c"];
const GREY = "#8b949e";
const ROW = 17, LEFT = 26, TOP = 26, WIDTH = 720, LABEL = 190;

/** A track that stays when the name is exchanged is a ghost; one that vanishes was evidence. @param {Track} track */
export function standing(track) {
  return track.ghost == null || !track.promotes ? "" : track.ghost >= 0.5 ? "ghost" : "evidence";
}

/** What a screen reader and the line below the picture say. @param {Track} track @param {Bank} bank */
function spoken(track, bank) {
  const ends = [track.layers[0], track.layers[track.layers.length - 1]].map((at) => bank.layers[at]);
  const effect = track.promotes ? `argues for ${track.promotes} by ${track.push.toFixed(2)} logits` : "argues for nothing";
  const stays = track.ghost == null ? "" : `; ${Math.round(100 * track.ghost)} % of it stays under other names`
    + (track.robust == null ? "" : `, ${Math.round(100 * track.robust)} % in other wordings`);
  return `track of layers ${ends[0]} to ${ends[1]}, ${effect}${stays}`;
}

/** Fill what stands below the picture with one track's latents. @param {HTMLElement} box @param {Track} track @param {Bank} bank */
function explain(box, track, bank) {
  const table = html("table"), head = html("tr");
  for (const name of ["layer", "latent", "magnitude", "cost of the link", "speaks for"]) head.append(html("th", "", name));
  table.append(head);
  track.layers.forEach((layer, i) => {
    const line = html("tr"), latent = track.latents[i];
    const cost = track.costs[i] ?? null;
    const cells = [bank.layers[layer], String(latent), track.sizes[i].toFixed(2), cost === null ? "birth" : `${cost.toFixed(1)} nats`];
    for (const cell of [...cells, bank.latents[`${layer}/${latent}`] ?? "–"]) line.append(html("td", "", cell));
    table.append(line);
  });
  box.replaceChildren(html("p", "", spoken(track, bank)), table);
}

/** Put tracks into rows where they and their labels do not meet. @param {Track[]} tracks @param {number} room */
function lanes(tracks, room) {
  /** @type {number[]} */
  const free = [];
  return tracks.map((track) => {
    const last = track.layers[track.layers.length - 1];
    let lane = free.findIndex((end) => end < track.layers[0]);
    if (lane < 0) lane = free.push(0) - 1;
    free[lane] = last + (track.promotes ? room : 0.6);
    return lane;
  });
}

/** @param {number} x1 @param {number} w1 @param {number} x2 @param {number} w2 @param {number} y */
function ribbon(x1, w1, x2, w2, y) {
  const middle = (x1 + x2) / 2;
  return `M${x1} ${y - w1}C${middle} ${y - w1} ${middle} ${y - w2} ${x2} ${y - w2}`
    + `L${x2} ${y + w2}C${middle} ${y + w2} ${middle} ${y + w1} ${x1} ${y + w1}Z`;
}

/**
 * Draw one track.
 * @param {Track} track @param {number} y @param {string} color @param {(layer: number) => number} x
 * @param {(size: number) => number} half @param {number} deepest
 */
function drawTrack(track, y, color, x, half, deepest) {
  const first = track.layers[0], last = track.layers[track.layers.length - 1];
  const group = svg("g", { fill: color, stroke: color, class: "track" });
  const reach = x(last) - x(first) + (track.promotes ? LABEL : 16);
  group.append(svg("rect", { x: x(first) - 8, y: y - ROW / 2, width: reach, height: ROW, stroke: "none", "fill-opacity": 0 }));
  track.layers.forEach((layer, j) => {
    const size = half(track.sizes[j]);
    if (j > 0) {
      const before = track.layers[j - 1];
      if (layer - before > 1) {
        group.append(svg("line", { x1: x(before), x2: x(layer), y1: y, y2: y, "stroke-dasharray": "3 3", "stroke-width": 1.5 }));
      } else {
        const d = ribbon(x(before), half(track.sizes[j - 1]), x(layer), size, y);
        group.append(svg("path", { d, stroke: "none", "fill-opacity": 0.7 }));
      }
    }
    group.append(svg("circle", { cx: x(layer), cy: y, r: size + 0.8, stroke: "none" }));
  });
  if (first > 0) group.append(svg("circle", { cx: x(first), cy: y, r: 6.5, fill: "none" }));
  if (last < deepest) group.append(svg("path", { d: `M${x(last) - 4} ${y - 4}l8 8m0 -8l-8 8`, fill: "none" }));
  if (track.promotes) {
    const name = track.promotes.length > 14 ? `${track.promotes.slice(0, 13)}…` : track.promotes;
    const said = [`${name} +${track.push.toFixed(2)}`, standing(track)].filter(Boolean).join(" · ");
    group.append(svg("text", { x: x(last) + 10, y: y + 3.5, "font-size": 11, stroke: "none", fill: "currentColor" }, said));
  }
  return group;
}

/** Arrow keys go from track to track. @param {SVGElement[]} groups @param {(at: number) => void} look */
function listen(groups, look) {
  groups.forEach((group, at) => {
    group.setAttribute("tabindex", at ? "-1" : "0");
    group.addEventListener("pointerenter", () => look(at));
    group.addEventListener("focus", () => look(at));
    group.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[/** @type {KeyboardEvent} */ (event).key];
      if (!step) return;
      event.preventDefault();
      groups[(at + step + groups.length) % groups.length].focus();
    });
  });
}

/**
 * Draw tracks into a box, with a legend and a place that explains the one that is looked at.
 * @param {Track[]} all @param {Bank} bank
 * @param {{ every: boolean, renamed: boolean }} how renamed: as they stand under other names
 */
export function drawTracks(all, bank, how) {
  const tracks = all.filter((track) => how.every || track.layers.length > 1)
    .sort((a, b) => a.layers[0] - b.layers[0] || b.layers.length - a.layers.length || b.push - a.push);
  const names = [...new Set(tracks.filter((t) => t.promotes).sort((a, b) => b.push - a.push).map((t) => t.promotes))];
  const strongest = Math.max(1e-9, ...tracks.flatMap((track) => track.sizes));
  const deepest = bank.layers.length - 1, step = (WIDTH - LEFT - LABEL) / Math.max(1, deepest);
  const row = lanes(tracks, LABEL / step), height = TOP + (Math.max(0, ...row) + 1) * ROW + 10;
  const x = (/** @type {number} */ layer) => LEFT + layer * step;
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "group", "aria-label": `${tracks.length} tracks through ${bank.layers.length} layers` });
  const every = Math.ceil(bank.layers.length / 13);
  bank.layers.forEach((name, i) => {
    picture.append(svg("line", { x1: x(i), x2: x(i), y1: TOP - 8, y2: height - 6, stroke: "currentColor", "stroke-opacity": 0.15 }));
    if (i % every === 0) picture.append(svg("text", { x: x(i), y: 13, "text-anchor": "middle", "font-size": 11, fill: "currentColor" }, every > 1 || deepest > 8 ? name : "layer " + name));
  });
  const groups = tracks.map((track, i) => {
    const share = how.renamed ? track.ghost ?? 1 : 1;
    const color = PALETTE[names.indexOf(track.promotes)] ?? GREY;
    const half = (/** @type {number} */ size) => (0.6 + 5.4 * size / strongest) * share;
    const group = drawTrack(track, TOP + row[i] * ROW + 6, color, x, half, deepest);
    if (how.renamed && share < 0.5) group.setAttribute("opacity", "0.35");
    group.setAttribute("role", "img");
    group.setAttribute("aria-label", spoken(track, bank));
    return group;
  });
  picture.append(...groups);
  const told = html("div", "told scroll"), legend = html("div", "legend"), box = html("div"), frame = html("div", "scroll");
  if (how.renamed) legend.append(html("b", "", "what stays under other names: ghosts"));
  told.append(html("p", "soft", "Point at a track, or step through them with the arrow keys, to read its latents."));
  names.slice(0, PALETTE.length).forEach((name, i) => {
    const item = html("span"), swatch = html("i");
    swatch.style.background = PALETTE[i];
    item.append(swatch, "argues for " + name);
    legend.append(item);
  });
  listen(groups, (at) => explain(told, tracks[at], bank));
  frame.append(picture);
  box.append(legend, frame, told);
  return box;
}
