// One answer as it comes: its text, coloured by the levels that drafted it, and its figures.

import { Refused } from "./client.js";

const PARTS = ["prefill", "forward", "draft", "rest"];

/** What is known of an answer; plain data, which a share file holds as it is. */
export function nothing(method) {
  return { method, pieces: [], ids: [], steps: [], seconds: {}, started: 0, first: null, last: null, metrics: null, usage: null };
}

/** Take in an event of the stream. */
export function take(answer, event, now) {
  for (const choice of event.choices) {
    const told = choice.hierdraft;
    if (!told) continue;
    if (told.tokens.length && answer.first === null) answer.first = now;
    if (told.tokens.length) answer.last = now;
    answer.pieces.push(...told.pieces);
    answer.ids.push(...told.tokens.map(([id]) => id));
    for (const step of told.steps ?? []) addStep(answer, step);
  }
  if (event.metrics) answer.metrics = event.metrics.speculative_decoding[0];
  if (event.usage) answer.usage = event.usage;
}

function addStep(answer, step) {
  const prompt = answer.steps.length === 0;
  answer.steps.push(step);
  for (const [part, seconds] of Object.entries(step.seconds)) {
    const name = prompt && part === "forward" ? "prefill" : part;
    answer.seconds[name] = (answer.seconds[name] ?? 0) + seconds;
  }
}

/** The text of an answer. */
export function textOf(answer) {
  return answer.pieces.map(([text]) => text).join("");
}

/** The figures of an answer, as they are shown. */
export function figures(answer) {
  const tokens = answer.ids.length, steps = Math.max(answer.steps.length - 1, 0);
  const spent = (answer.last ?? 0) - (answer.first ?? 0);
  return {
    speed: tokens > 1 && spent > 0 ? ((tokens - 1) / (spent / 1000)).toFixed(1) : "–",
    tokens: String(tokens),
    accepted: steps > 0 ? ((tokens - 1) / steps).toFixed(2) : "–",
    first: answer.first === null ? "–" : `${((answer.first - answer.started) / 1000).toFixed(2)} s`,
  };
}

/** Shows one answer. */
export class Pane {
  constructor(title) {
    this.element = document.getElementById("pane").content.firstElementChild.cloneNode(true);
    this.element.querySelector("h2").textContent = title;
    this.text = this.element.querySelector(".text");
    this.shown = 0;
  }

  /** Bring what is seen up to what is known. */
  show(answer) {
    addPieces(this.text, answer.pieces.slice(this.shown));
    this.shown = answer.pieces.length;
    for (const [name, value] of Object.entries(figures(answer))) {
      this.element.querySelector(`[data-figure="${name}"]`).textContent = value;
    }
    showTime(this.element.querySelector(".time"), answer.seconds);
  }

  /** Say why there is no more. */
  fail(error) {
    const told = document.createElement("p");
    told.textContent = error instanceof Refused ? error.message : `The server cannot be reached (${error.message}).`;
    told.setAttribute("role", "alert");
    this.element.append(told);
  }
}

/** Pieces at the end of an element, each in its level's colour. Only ever as text. */
export function addPieces(place, pieces) {
  for (const [text, level] of pieces) {
    const last = place.lastElementChild;
    if (last && last.dataset.level === level) { last.append(text); continue; }
    const span = document.createElement("span");
    span.dataset.level = level;
    if (level !== "target") { span.className = `level level-${level}`; span.title = level; }
    span.append(text);
    place.append(span);
  }
}

function showTime(bar, seconds) {
  const sum = PARTS.reduce((all, part) => all + (seconds[part] ?? 0), 0);
  if (sum === 0) return;
  const told = PARTS.map((part) => `${part} ${(((seconds[part] ?? 0) / sum) * 100).toFixed(0)} %`).join(", ");
  bar.setAttribute("aria-label", `Where the time went: ${told}`);
  bar.title = told;
  bar.replaceChildren(...PARTS.map((part) => {
    const span = document.createElement("span");
    span.className = `part-${part}`;
    span.style.width = `${((seconds[part] ?? 0) / sum) * 100}%`;
    return span;
  }));
}
