// Draws the tree of one step: what was drafted, and what of it was accepted.

const SVG = "http://www.w3.org/2000/svg";
const WIDE = 118, HIGH = 30, BOX = 104;

/** Put the tree of a step into an element. */
export function drawTree(place, step) {
  place.replaceChildren();
  if (step.nodes.length === 0) {
    place.textContent = "Nothing was drafted in this step.";
    return;
  }
  const spots = layOut(step.parents);
  const width = WIDE * (Math.max(...spots.map((spot) => spot.depth)) + 1) + 12;
  const height = HIGH * (Math.max(...spots.map((spot) => spot.row)) + 1) + 10;
  const svg = made("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": inWords(step) });
  const kept = new Set(step.accepted);
  step.parents.forEach((parent, node) => {
    if (parent >= 0) svg.append(edge(spots[parent], spots[node], kept.has(node)));
  });
  step.nodes.forEach((text, node) => svg.append(box(spots[node], text, step.levels[node], step.chances[node], kept.has(node))));
  place.append(svg);
}

/** What a step did, in one sentence. */
export function inWords(step) {
  const count = step.nodes.length, kept = step.accepted.length;
  const taken = Object.values(step.seconds).reduce((sum, seconds) => sum + seconds, 0) * 1000;
  const drafted = count === 0 ? "Nothing drafted" : `${count} drafted, ${kept} accepted`;
  return `${drafted}, ${step.tokens.length} ${step.tokens.length === 1 ? "token" : "tokens"} in ${taken.toFixed(1)} ms: ` +
    JSON.stringify(step.tokens.join(""));
}

/** For each node its depth, and a row of its own below those of its parent's earlier children. */
function layOut(parents) {
  const children = parents.map(() => []), roots = [];
  parents.forEach((parent, node) => (parent < 0 ? roots : children[parent]).push(node));
  const spots = [];
  let row = 0;
  const walk = [...roots].reverse().map((node) => [node, 0, true]);
  while (walk.length) {
    const [node, depth, first] = walk.pop();
    if (!first || (depth === 0 && spots.some(Boolean))) row += 1;
    spots[node] = { depth, row };
    [...children[node].entries()].reverse().forEach(([place, child]) => walk.push([child, depth + 1, place === 0]));
  }
  return spots;
}

function edge(from, to, kept) {
  const x = from.depth * WIDE + 6 + BOX, y = from.row * HIGH + 17, toX = to.depth * WIDE + 6, toY = to.row * HIGH + 17;
  return made("path", { d: `M${x} ${y}C${x + 8} ${y} ${toX - 8} ${toY} ${toX} ${toY}`, class: kept ? "edge kept" : "edge" });
}

function box(spot, text, level, chance, kept) {
  const x = spot.depth * WIDE + 6, y = spot.row * HIGH + 6, shown = JSON.stringify(text).slice(1, -1);
  const group = made("g", { class: `level-${level}` });
  const label = made("text", { x: x + 6, y: y + 15 });
  label.textContent = shown.length > 12 ? `${shown.slice(0, 11)}…` : shown;
  const title = made("title", {});
  title.textContent = `${shown}: ${level}, chance ${chance}${kept ? ", accepted" : ""}`;
  group.append(title, made("rect", { x, y, width: BOX, height: 22, rx: 4, class: kept ? "node kept" : "node" }), label);
  return group;
}

function made(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}
