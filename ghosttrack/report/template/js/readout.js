// Dots of pictures that say what they are when they are pointed at, or stepped to by arrow keys.
import { html, stepThrough } from "./dom.js";

/** @typedef {{ x: number, y: number, says: string }} Dot */

/** Read the dots that a picture names, and its size. @param {HTMLImageElement} image */
function dotsOf(image) {
  const bytes = Uint8Array.from(atob(image.currentSrc.split(",")[1]), (character) => character.charCodeAt(0));
  const picture = new DOMParser().parseFromString(new TextDecoder().decode(bytes), "image/svg+xml").documentElement;
  const dots = /** @type {Dot[]} */ ([]);
  for (const drawn of picture.querySelectorAll("g[id^='[\"']")) {
    const said = /** @type {string[]} */ (JSON.parse(drawn.id));
    drawn.querySelectorAll("use").forEach((at, i) => dots.push({ x: Number(at.getAttribute("x")), y: Number(at.getAttribute("y")), says: said[i] }));
  }
  const [, , width, height] = (picture.getAttribute("viewBox") ?? "").split(" ").map(Number);
  return { dots: dots.sort((a, b) => a.x - b.x || a.y - b.y), width, height };
}

/** @param {HTMLImageElement} image @param {HTMLElement} frame */
function overlay(image, frame) {
  const { dots, width, height } = dotsOf(image), tip = html("div", "tip");
  frame.querySelectorAll("svg, .tip").forEach((old) => old.remove());
  if (!dots.length) return;
  const over = d3.create("svg").attr("viewBox", `0 0 ${width} ${height}`).attr("role", "group").attr("style", image.style.cssText)
    .attr("aria-label", `${dots.length} dots: step through them with the arrow keys`);
  const marks = over.selectAll("circle").data(dots).join("circle").attr("cx", (dot) => dot.x).attr("cy", (dot) => dot.y).attr("r", 6)
    .attr("role", "img").attr("aria-label", (dot) => dot.says);
  frame.append(/** @type {SVGElement} */ (over.node()), tip);
  stepThrough(marks.nodes(), (at) => {
    const share = 100 * dots[at].x / width, scale = image.width / width, isHigh = dots[at].y < height / 3;
    tip.textContent = dots[at].says;
    tip.style.cssText = `left: ${share}%; top: ${scale * dots[at].y}px; transform: translate(-${share}%, ${isHigh ? "10px" : "calc(-100% - 10px)"})`;
    tip.hidden = false;
  });
  frame.addEventListener("pointerleave", () => { tip.hidden = true; });
  tip.hidden = true;
}

/** Lay what can be pointed at over every picture that names its dots. */
export function setUpReadouts() {
  for (const image of /** @type {NodeListOf<HTMLImageElement>} */ (document.querySelectorAll(".figure img"))) {
    const whole = image.closest("picture") ?? image, frame = html("div", "over");
    whole.replaceWith(frame);
    frame.append(whole);
    image.addEventListener("load", () => overlay(image, frame));
    if (image.complete) overlay(image, frame);
  }
}
