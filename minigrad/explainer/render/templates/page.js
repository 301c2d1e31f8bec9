// Stepping by keys, by buttons and by nodes of the graph.

const made = new Map(); // for each variable, the node that makes it or shows it
data.graph.nodes.forEach((node, i) => node.names.forEach((name) => made.set(name, i)));
const folded = new Set(data.graph.frames.flatMap((frame, i) => (frame.folded ? [i] : [])));
const graph = new Graph(get("graph"), data.graph, visit);
let stops = []; // lists of positions: a single one, or all in a row inside a folded module
let current = 0; // the current position

function find() {
  stops = [];
  let before = null;
  positions.forEach(({ phase, node }, i) => {
    const frame = node < 0 || phase === "begin" ? -1 : graph.around(node);
    const key = frame < 0 ? null : `${phase} ${frame}`;
    if (key && key === before) stops[stops.length - 1].push(i);
    else stops.push([i]);
    before = key;
  });
  get("slider").max = stops.length - 1;
}

const at = () => stops.findIndex((stop) => stop.includes(current));

function go(stop) {
  current = stops[Math.min(Math.max(stop, 0), stops.length - 1)].at(-1);
  render();
}

function visit(node) {
  const back = current > FORWARD;
  const phase = back ? "backward" : "forward";
  const position = positions.findIndex((p) => p.phase === phase && p.node === node);
  if (position >= 0) {
    current = position;
    current = stops[at()].at(-1);
    return render();
  }
  const item = data.graph.nodes[node].names.map((name) => get(`gradient-${name}`)).find(Boolean);
  if (item) item.focus();
  else go(0);
}

function render() {
  const number = at();
  const stop = stops[number];
  const { phase, node, entry } = positions[current];
  const frame = node < 0 || phase === "begin" ? -1 : graph.around(node);
  const backward = current > FORWARD;
  const entries = stop.map((i) => positions[i].entry).filter(Boolean);
  const content = frame < 0 ? CONTENT[phase](entry, current) : module(stop, data.graph.frames[frame]);
  get("step").className = `${backward ? "backward" : "forward"} ${frame < 0 ? "" : "folded"}`;
  get("step").dataset.position = current;
  get("step").replaceChildren(...content);
  const now = new Set(phase === "backward" ? entries.map((e) => e.name) : []);
  const rows = data.gradients.map((g) => gradient(g, current, now));
  get("gradients").querySelector("ul").replaceChildren(...rows);
  get("gradients-title").textContent = phase === "end" ? "Gradients" : "Gradients so far";
  const incoming = phase === "forward" ? data.graph.edges.flatMap((e, i) => (e.target === node ? [i] : [])) : [];
  graph.show({
    node,
    edges: phase === "backward" ? entries.map((e) => e.edge) : incoming,
    target: phase === "backward" && frame < 0 ? made.get(entry.name) : -1,
    done: backward ? Infinity : node,
    backward,
  });
  get("slider").value = number;
  get("slider").setAttribute("aria-valuetext", content[0].textContent);
  get("count").textContent = `${number + 1} of ${stops.length}`;
  // Not `disabled`, which would take the focus away from the button.
  for (const id of ["first", "back"]) get(id).ariaDisabled = number === 0;
  for (const id of ["forth", "last"]) get(id).ariaDisabled = number === stops.length - 1;
  const lines = entry && frame < 0 ? entry.text.join("; ") : "";
  get("announcement").textContent = `${content[0].textContent.replace(/\s+/g, " ").trim()}. ${lines}`;
}

function fold() {
  graph.fold(folded);
  find();
  current = stops[at()].at(-1);
  render();
}

function modules() {
  const list = get("modules").querySelector("ul");
  const boxes = data.graph.frames.map((frame, i) => {
    const box = element("input", { type: "checkbox", "data-fold": i });
    box.checked = folded.has(i);
    box.addEventListener("change", () => {
      folded[box.checked ? "add" : "delete"](i);
      fold();
    });
    list.append(element("li", {}, element("label", {}, box, ` fold ${frame.head}`)));
    return box;
  });
  const all = (wanted) => () => {
    boxes.forEach((box, i) => {
      box.checked = wanted(data.graph.frames[i]);
      folded[box.checked ? "add" : "delete"](i);
    });
    fold();
  };
  get("fold").addEventListener("click", all((frame) => frame.layer));
  get("unfold").addEventListener("click", all(() => false));
  get("modules").hidden = !boxes.length;
}

const KEYS = {
  ArrowLeft: () => at() - 1,
  ArrowRight: () => at() + 1,
  Home: () => 0,
  End: () => stops.length - 1,
};
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.key === "Escape") get("modules").open = false;
  if (!(event.key in KEYS)) return;
  event.preventDefault();
  go(KEYS[event.key]());
});
get("first").addEventListener("click", () => go(0));
get("back").addEventListener("click", () => go(at() - 1));
get("forth").addEventListener("click", () => go(at() + 1));
get("last").addEventListener("click", () => go(stops.length - 1));
get("slider").addEventListener("input", (event) => go(Number(event.target.value)));
addEventListener("resize", () => graph.center());
modules();
fold();
