// A chat in which every answer is decoded with drafts and plainly, side by side.

import { answer as ask, look, Refused } from "./client.js";
import { addPieces, nothing, Pane, take, textOf } from "./pane.js";
import { drawTree, inWords } from "./tree.js";

const FORM = 1;
const byId = (id) => document.getElementById(id);
const state = { model: null, turns: [], stopping: null };

function number(id) { return Number(byId(id).value); }

function settings() {
  return {
    system: byId("system").value, prediction: byId("prediction").value, method: byId("method").value || "hierarchy",
    temperature: number("temperature"), seed: number("seed"), tokens: number("tokens"), compare: byId("compare").checked,
  };
}

function body(turn, method) {
  const { system, prediction, temperature, seed, tokens } = turn.settings;
  const messages = system ? [{ role: "system", content: system }] : [];
  for (const earlier of state.turns) {
    if (earlier === turn) break;
    messages.push({ role: "user", content: earlier.asked }, { role: "assistant", content: textOf(earlier.answers[0]) });
  }
  messages.push({ role: "user", content: turn.asked });
  return {
    model: state.model, messages, temperature, seed, max_tokens: tokens, stream: true, stream_options: { include_usage: true },
    ...(prediction && method !== "none" ? { prediction: { type: "content", content: prediction } } : {}),
    hierdraft: { method, provenance: true, trace: true },
  };
}

async function run(turn, view, place) {
  const known = turn.answers[place], pane = view.panes[place];
  known.started = performance.now();
  try {
    for await (const event of ask(body(turn, known.method), byId("key").value, state.stopping.signal)) {
      take(known, event, performance.now());
      pane.show(known);
    }
    return true;
  } catch (error) {
    if (error.name !== "AbortError") {
      pane.fail(error);
      if (error instanceof Refused && error.status === 401) { byId("settings").open = true; byId("key").focus(); }
    }
    return false;
  }
}

async function send(event) {
  event.preventDefault();
  const asked = byId("prompt").value;
  if (state.stopping || !asked.trim() || !byId("ask").reportValidity()) return;
  const chosen = settings();
  // with drafts first: what plain decoding says is learned, and would make the other look faster than it is
  const methods = chosen.compare ? [chosen.method, "none"] : [chosen.method];
  const turn = { asked, settings: chosen, answers: methods.map(nothing) };
  state.turns.push(turn);
  byId("prompt").value = "";
  state.stopping = new AbortController();
  busy(true);
  const view = show(turn);
  let whole = true;
  for (const place of methods.keys()) whole = whole && (await run(turn, view, place));
  state.stopping = null;
  busy(false);
  view.finish(whole);
  byId("prompt").focus();
}

function show(turn) {
  byId("empty").hidden = true;
  const element = byId("turn").content.firstElementChild.cloneNode(true);
  element.querySelector(".asked").textContent = turn.asked;
  const panes = turn.answers.map(({ method }) => new Pane(method === "none" ? "Plain" : `Drafted: ${method}`));
  element.querySelector(".panes").append(...panes.map((pane) => pane.element));
  byId("chat").append(element);
  element.scrollIntoView({ block: "start" });
  return { panes, finish: (whole) => { if (whole) verdict(element, turn); replay(element, turn.answers[0]); } };
}

function verdict(element, turn) {
  if (turn.answers.length < 2) return;
  const [drafted, plain] = turn.answers, told = element.querySelector(".verdict");
  const same = drafted.ids.length === plain.ids.length && drafted.ids.every((id, place) => id === plain.ids[place]);
  const spent = (answer) => answer.last - answer.started;
  told.textContent = same
    ? `The same ${plain.ids.length} tokens; with drafts ${(spent(plain) / spent(drafted)).toFixed(2)} times as fast.`
    : "The answers differ: the number type is rounded differently in forwards of several rows (see --exact).";
  told.classList.toggle("bad", !same);
}

function replay(element, answer) {
  const part = element.querySelector(".replay"), slider = part.querySelector("input");
  if (answer.steps.length === 0) return;
  part.hidden = false;
  slider.max = String(answer.steps.length - 1);
  const seen = () => {
    const place = Number(slider.value), step = answer.steps[place];
    part.querySelector(".told").textContent = `Step ${place + 1} of ${answer.steps.length}. ${inWords(step)}`;
    slider.setAttribute("aria-valuetext", `step ${place + 1} of ${answer.steps.length}`);
    const text = part.querySelector(".so-far");
    text.replaceChildren();
    addPieces(text, [[answer.steps.slice(0, place).map(({ tokens }) => tokens.join("")).join(""), "target"]]);
    const now = document.createElement("span");
    now.className = "now";
    now.textContent = step.tokens.join("");
    text.append(now);
    drawTree(part.querySelector(".tree"), step);
  };
  const move = (by) => () => { slider.value = String(Number(slider.value) + by); seen(); };
  slider.addEventListener("input", seen);
  part.querySelector(".back").addEventListener("click", move(-1));
  part.querySelector(".next").addEventListener("click", move(1));
  seen();
}

function busy(on) {
  byId("send").disabled = on;
  byId("stop").disabled = !on;
  byId("save").disabled = byId("clear").disabled = on || state.turns.length === 0;
  byId("open").disabled = on;
}

function stop() { state.stopping?.abort(); }

function clear() {
  state.turns = [];
  byId("chat").replaceChildren();
  byId("empty").hidden = false;
  byId("problem").textContent = "";
  busy(false);
}

function save() {
  const data = JSON.stringify({ hierdraft: FORM, model: state.model, turns: state.turns });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([data], { type: "application/json" }));
  link.download = "hierdraft-chat.json";
  link.click();
  URL.revokeObjectURL(link.href);
}

async function open() {
  const file = byId("file").files[0];
  byId("file").value = "";
  if (!file) return;
  try {
    const data = JSON.parse(await file.text());
    if (data.hierdraft !== FORM || !Array.isArray(data.turns) || !data.turns.every(isTurn)) throw new Error("not a chat that was saved here");
    clear();
    state.turns = data.turns;
    for (const turn of state.turns) {
      const view = show(turn);
      turn.answers.forEach((answer, place) => view.panes[place].show(answer));
      view.finish(true);
    }
    busy(false);
  } catch (error) {
    byId("problem").textContent = `${file.name} cannot be opened: ${error.message}.`;
  }
}

function isTurn(turn) {
  return typeof turn?.asked === "string" && Array.isArray(turn.answers) && turn.answers.length > 0 &&
    turn.answers.every((answer) => Array.isArray(answer?.pieces) && Array.isArray(answer.steps) && Array.isArray(answer.ids));
}

function theme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  byId("theme").setAttribute("aria-pressed", String(dark));
}

async function begin() {
  const wanted = window.matchMedia("(prefers-color-scheme: dark)");
  theme(wanted.matches);
  wanted.addEventListener("change", () => theme(wanted.matches));
  byId("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme !== "dark"));
  byId("ask").addEventListener("submit", send);
  byId("stop").addEventListener("click", stop);
  byId("clear").addEventListener("click", clear);
  byId("save").addEventListener("click", save);
  byId("open").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", open);
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); byId("ask").requestSubmit(); }
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") stop(); });
  try {
    const { model, levels } = await look("page.json");
    state.model = model;
    byId("model").textContent = model;
    document.title = `hierdraft: ${model}`;
    byId("legend").append(...levels.map(swatch), swatch("target"));
  } catch (error) {
    byId("problem").textContent = `The server cannot be reached: ${error.message}`;
  }
}

function swatch(level) {
  const told = document.createElement("span"), colour = document.createElement("span");
  colour.className = level === "target" ? "swatch" : `swatch level level-${level}`;
  told.append(colour, level === "target" ? "uncoloured: chosen by the model itself" : level);
  return told;
}

begin();
