// An answer's tracks as ribbons: layers left to right, width = magnitude, colour = the candidate
// that a track argues for.
import { html, stepThrough } from "./dom.js";

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

/** What is drawn of a track. @typedef {{ track: Track, points: { x: number, half: number }[], lane: number, color: string }} Drawn */

/** The ribbon of one track, whole where it is seen layer by layer. @param {Drawn} one */
function ribbon({ track, points }) {
  const seen = points.flatMap((point, j) => j && track.layers[j] - track.layers[j - 1] > 1 ? [null, point] : [point]);
  return (/** @type {d3.Shape<any>} */ (d3.area())).defined((point) => point !== null).curve(d3.curveBumpX)
    .x((point) => point.x).y0((point) => -point.half).y1((point) => point.half)(seen);
}

/** Layers that a track coasts through, as pairs of ends. @param {Drawn} one */
function coasts({ track, points }) {
  return d3.pairs(points).filter((_, j) => track.layers[j + 1] - track.layers[j] > 1);
}

/** @param {Drawn} one */
function label({ track }) {
  const name = track.promotes.length > 14 ? `${track.promotes.slice(0, 13)}…` : track.promotes;
  return [`${name} +${track.push.toFixed(2)}`, standing(track)].filter(Boolean).join(" · ");
}

/** Draw tracks into their groups. @param {d3.Selection<Drawn>} groups @param {number} deepest */
function drawGroups(groups, deepest) {
  const first = (/** @type {Drawn} */ one) => one.points[0].x, last = (/** @type {Drawn} */ one) => one.points[one.points.length - 1].x;
  groups.attr("fill", (one) => one.color).attr("stroke", (one) => one.color).attr("class", "track")
    .attr("transform", (one) => `translate(0,${TOP + one.lane * ROW + 6})`);
  groups.append("rect").attr("x", (one) => first(one) - 8).attr("y", -ROW / 2).attr("height", ROW).attr("stroke", "none").attr("fill-opacity", 0)
    .attr("width", (one) => last(one) - first(one) + (one.track.promotes ? LABEL : 16));
  groups.append("path").attr("d", ribbon).attr("stroke", "none").attr("fill-opacity", 0.7);
  groups.selectAll("line").data(coasts).join("line").attr("x1", ([a]) => a.x).attr("x2", ([, b]) => b.x)
    .attr("stroke-dasharray", "3 3").attr("stroke-width", 1.5);
  groups.selectAll("circle").data((one) => one.points).join("circle").attr("cx", (point) => point.x).attr("r", (point) => point.half + 0.8).attr("stroke", "none");
  groups.filter((one) => one.track.layers[0] > 0).append("circle").attr("cx", first).attr("r", 6.5).attr("fill", "none");
  groups.filter((one) => one.track.layers[one.track.layers.length - 1] < deepest).append("path")
    .attr("d", (one) => `M${last(one) - 4} -4l8 8m0 -8l-8 8`).attr("fill", "none");
  groups.filter((one) => Boolean(one.track.promotes)).append("text").attr("x", (one) => last(one) + 10).attr("y", 3.5)
    .attr("font-size", 11).attr("stroke", "none").attr("fill", "currentColor").text(label);
}

/** Layers as an axis, with a line down through each. @param {d3.Selection} picture @param {d3.Linear} x @param {string[]} layers @param {number} height */
function drawLayers(picture, x, layers, height) {
  const every = Math.ceil(layers.length / 13), said = every > 1 || layers.length > 9 ? "" : "layer ";
  const axis = picture.append("g").attr("transform", `translate(0,${TOP - 8})`)
    .call(d3.axisTop(x).tickValues(d3.range(0, layers.length)).tickSize(TOP - height + 2).tickFormat((i) => i % every ? "" : said + layers[i]));
  axis.attr("font-family", null).attr("font-size", 11).selectAll("path").remove();
  axis.selectAll("line").attr("stroke-opacity", 0.15);
  axis.selectAll("text").attr("y", -5);
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
  const deepest = bank.layers.length - 1, x = d3.scaleLinear([0, Math.max(1, deepest)], [LEFT, WIDTH - LABEL]);
  const half = d3.scaleLinear([0, d3.max(tracks.flatMap((track) => track.sizes)) || 1e-9], [0.6, 6]);
  const color = d3.scaleOrdinal(names.slice(0, PALETTE.length), PALETTE).unknown(GREY);
  const lane = lanes(tracks, LABEL / (x(1) - x(0))), height = TOP + (Math.max(0, ...lane) + 1) * ROW + 10;
  const stays = (/** @type {Track} */ track) => how.renamed ? track.ghost ?? 1 : 1;
  const picture = d3.create("svg").attr("viewBox", `0 0 ${WIDTH} ${height}`).attr("role", "group")
    .attr("aria-label", `${tracks.length} tracks through ${bank.layers.length} layers`);
  drawLayers(picture, x, bank.layers, height);
  const groups = picture.selectAll(".track").data(tracks.map((track, i) => ({
    track, lane: lane[i], color: color(track.promotes),
    points: track.layers.map((layer, j) => ({ x: x(layer), half: half(track.sizes[j]) * stays(track) })),
  }))).join("g").attr("role", "img").attr("aria-label", ({ track }) => spoken(track, bank))
    .attr("opacity", ({ track }) => stays(track) < 0.5 ? 0.35 : null);
  drawGroups(groups, deepest);
  const told = html("div", "told scroll"), legend = html("div", "legend"), box = html("div"), frame = html("div", "scroll");
  if (how.renamed) legend.append(html("b", "", "what stays under other names: ghosts"));
  told.append(html("p", "soft", "Point at a track, or step through them with the arrow keys, to read its latents."));
  for (const name of color.domain()) {
    const item = html("span"), swatch = html("i");
    swatch.style.background = color(name);
    item.append(swatch, "argues for " + name);
    legend.append(item);
  }
  stepThrough(groups.nodes(), (at) => explain(told, tracks[at], bank));
  frame.append(/** @type {SVGElement} */ (picture.node()));
  box.append(legend, frame, told);
  return box;
}
