// Why an answer has its verdict, in words, beside what is usual.
import { html, percent } from "./dom.js";

/**
 * @typedef {{ name: string, value: number | null, text: string, effect: number, right: string, hallucinated: string }} Reason
 * @typedef {{ low: number, high: number, counts: number[][] }} Distribution
 * @typedef {{ statistics: Record<string, Distribution>, leader: string, explainer: string }} Judges
 * @typedef {{ text: string, prob: number, is_answer: boolean, promoters: { layers: number[], push: number }[] }} Hypothesis
 * @typedef {{ prompt: string, text: string, label: number, category: string, truth: string, risk: number, flagged: boolean,
 *   explained_risk: number | null, prob: number | null,
 *   references: string[], tokens: string[], logprobs: number[], token_risks?: number[], owner: string, owner_gap: number,
 *   notes?: string[], reasons: Reason[], hypotheses?: Hypothesis[] }} Told
 */

/** The answer's tokens; the darker, the riskier. @param {Told} answer */
export function tokenStrip(answer) {
  const strip = html("div", "tokens");
  if (!answer.tokens.length) strip.append(html("b", "", answer.text || "(nothing)"));
  answer.tokens.forEach((token, i) => {
    const prob = Math.exp(answer.logprobs[i]);
    const known = answer.token_risks?.[i], risk = known ?? 1 - prob;
    const span = html("span", "", token || "␣");
    span.style.background = `rgba(194, 65, 12, ${(0.5 * risk).toFixed(3)})`;
    const said = known === undefined ? `${percent(prob)} sure` : `risk so far ${percent(risk)}`;
    span.title = `probability ${prob.toFixed(3)}, ${said}`;
    span.append(html("small", "soft", said));
    strip.append(span);
  });
  return strip;
}

/** @param {Told} answer */
export function verdictOf(answer) {
  const said = html("p", "soft"), style = answer.label ? "bad" : "good";
  said.append("risk ", html("b", style, percent(answer.risk)), `, ${answer.flagged ? "flagged" : "not flagged"}; the model's own probability ${percent(answer.prob)}`);
  if (answer.truth) said.append("; in truth ", html("b", style, answer.truth.replaceAll("_", " ")));
  if (answer.references.length) said.append(`; right: ${answer.references.join(" / ")}`);
  if (answer.owner) {
    const gap = `${Math.abs(answer.owner_gap).toFixed(2)} nats`;
    said.append(answer.owner_gap < 0 ? `; this answer is ${gap} likelier of ${answer.owner}`
      : `; nearest other name ${answer.owner}, ${gap} less likely`);
  }
  return said;
}

/** Shares of right and of hallucinated answers along a statistic, and where this answer lies. @param {Distribution} of @param {number | null} value */
function sketch(of, value) {
  const width = 140, height = 30, n = of.counts[0].length;
  const x = d3.scaleLinear([of.low, of.high], [0, width]).clamp(true);
  const y = d3.scaleLinear([0, Math.max(1e-9, ...of.counts.flat())], [height, 4]);
  const outline = (/** @type {d3.Shape<number>} */ (d3.area())).curve(d3.curveStepAfter)
    .x((_, i) => i * width / n).y0(height).y1(y);
  const picture = d3.create("svg").attr("viewBox", `0 0 ${width} ${height}`).attr("width", width).attr("height", height).attr("aria-hidden", "true");
  picture.selectAll("path").data(of.counts).join("path").attr("d", (counts) => outline([...counts, counts[n - 1]]))
    .attr("fill", (_, label) => label ? "var(--bad)" : "var(--good)").attr("fill-opacity", 0.4);
  if (value !== null) picture.append("line").attr("x1", x(value)).attr("x2", x(value)).attr("y2", height).attr("stroke", "currentColor").attr("stroke-width", 2);
  return /** @type {SVGElement} */ (picture.node());
}

/** Whose reasons these are, where another detector leads the page. @param {Told} answer @param {Judges} judges */
function titleOf(answer, judges) {
  if (judges.explainer === judges.leader) return [html("h3", "", "Why this verdict")];
  const risk = answer.explained_risk === null ? "" : `: ${percent(answer.explained_risk)}`;
  return [
    html("h3", "", `Why, by ${judges.explainer}${risk}`),
    html("p", "soft", `${judges.explainer}, which judges new prompts, too, can be taken apart; ${judges.leader}, which leads this page, says ${percent(answer.risk)}.`),
  ];
}

/** @param {Told} answer @param {Judges} judges */
export function reasonsOf(answer, judges) {
  const box = html("div", "why");
  if (!answer.reasons.length) return box;
  box.append(...titleOf(answer, judges));
  for (const reason of answer.reasons) {
    const line = html("div", "reason"), words = html("div"), rises = reason.effect > 0;
    words.append(html("b", rises ? "bad" : "good", `${rises ? "▲ +" : "▼ "}${reason.effect.toFixed(2)} `), reason.text);
    if (reason.right) {
      words.append(html("div", "soft", `usual where right ${reason.right}, where hallucinated ${reason.hallucinated}`));
    }
    line.append(words);
    if (judges.statistics[reason.name]) line.append(sketch(judges.statistics[reason.name], reason.value));
    box.append(line);
  }
  box.append(html("p", "soft", "▲ raises the risk, ▼ lowers it, in log-odds. Green: right answers, orange: hallucinated ones, line: this answer."));
  return box;
}

/** @param {Hypothesis[]} hypotheses */
export function competition(hypotheses) {
  const box = html("div", "scroll"), table = html("table"), head = html("tr");
  for (const name of ["competing answers", "probability", "tracks for its first token, logits"]) head.append(html("th", "", name));
  table.append(head);
  for (const one of hypotheses) {
    const line = html("tr"), spans = one.promoters.map((p) => `layers ${p.layers[0]}–${p.layers[p.layers.length - 1]} +${p.push.toFixed(2)}`);
    line.append(html("td", one.is_answer ? "given" : "", one.text), html("td", "number", percent(one.prob)), html("td", "wrap", spans.join(", ")));
    table.append(line);
  }
  box.append(table);
  return box;
}
