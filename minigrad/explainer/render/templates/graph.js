// The graph: modules folded to boxes, and the current record in view.

const BOX = 42; // the height of a folded module
const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function curve(points) {
  let [x, top, bottom] = points[0];
  let path = `M${x} ${top}V${bottom}`;
  for (const [x1, top1, end] of points.slice(1)) {
    const middle = (bottom + top1) / 2;
    path += `C${x} ${middle} ${x1} ${middle} ${x1} ${top1}V${end}`;
    [x, bottom] = [x1, end];
  }
  return path;
}

class Graph {
  constructor(pane, data, visit) {
    this.pane = pane;
    this.svg = pane.querySelector("svg");
    this.data = data;
    this.view = this.svg.viewBox.baseVal;
    [this.width, this.height] = [this.view.width, this.view.height];
    for (const name of ["width", "height"]) this.svg.removeAttribute(name);
    // Fit the drawing to the pane, as far as its text stays readable.
    this.svg.style.minWidth = `${0.8 * this.width}px`;
    this.svg.style.maxWidth = `${this.width}px`;
    this.inside = data.frames.map((frame) => new Set(frame.places));
    this.folded = []; // the outermost frames that are folded
    this.boxes = data.frames.map((frame, i) => this.svg.appendChild(this.box(frame, i, visit)));
    this.nodes = data.nodes.map((node, i) => this.svg.querySelector(`[data-node="${i}"]`));
    this.nodes.forEach((node, i) => this.button(node, () => visit(i)));
  }

  button(node, act) {
    node.setAttribute("tabindex", "0");
    node.setAttribute("role", "button");
    node.addEventListener("click", act);
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        act();
      }
    });
  }

  box(frame, i, visit) {
    const made = shape(
      "g", { class: "module", "data-box": i, "data-node": "box" },
      shape("title", {}, `${frame.head}, folded`),
      shape("rect", {
        class: "box", x: -frame.width / 2, y: -BOX / 2, width: frame.width, height: BOX, rx: 4,
      }),
      shape("text", { y: -3 }, frame.title),
      shape("text", { class: "small", y: 12 }, frame.subtitle),
    );
    this.button(made, () => visit(this.last(frame)));
    return made;
  }

  last(frame) {
    return Math.max(...frame.places);
  }

  // The outermost folded frame around a node, or -1.
  around(node) {
    const place = this.data.nodes[node].place;
    return this.folded.find((i) => this.inside[i].has(place)) ?? -1;
  }

  // Where a height moves to when each folded frame shrinks to the height of a box.
  at(y) {
    let moved = y;
    for (const i of this.folded) {
      const { top, bottom } = this.data.frames[i];
      const into = Math.min(Math.max(y - top, 0), bottom - top);
      moved -= into * (1 - BOX / (bottom - top));
    }
    return moved;
  }

  fold(wanted) {
    this.folded = [];
    this.data.frames.forEach((frame, i) => {
      const outer = this.folded.some((j) => this.inside[j].has(frame.places[0]));
      if (wanted.has(i) && !outer) this.folded.push(i);
    });
    const hide = (part, hidden) => (part.style.display = hidden ? "none" : "");
    for (const [i, middle] of Object.entries(this.data.middles)) {
      const place = this.svg.querySelector(`[data-place="${i}"]`);
      hide(place, this.folded.some((j) => this.inside[j].has(Number(i))));
      place.setAttribute("transform", `translate(0 ${this.at(middle) - middle})`);
    }
    this.data.frames.forEach((frame, i) => {
      // Outer frames come first, so that none around this one comes after it.
      const hidden = this.folded.some((j) => j <= i && this.inside[j].has(frame.places[0]));
      const [rect, head] = this.svg.querySelectorAll(`[data-frame="${i}"]`);
      const [top, bottom] = [this.at(frame.top), this.at(frame.bottom)];
      [rect, head].forEach((part) => hide(part, hidden));
      rect.setAttribute("y", top);
      rect.setAttribute("height", Math.max(0, bottom - top));
      head.setAttribute("y", top + 15);
      hide(this.boxes[i], !this.folded.includes(i));
      this.boxes[i].setAttribute("transform", `translate(${frame.x} ${top + BOX / 2})`);
    });
    this.route(hide);
    this.view.height = this.at(this.height);
    this.svg.querySelector(".ground").setAttribute("height", this.view.height);
  }

  route(hide) {
    const seen = new Set();
    this.data.edges.forEach((edge, i) => {
      if (!edge.points.length) return; // the edge of a docked node moves with its place
      const [from, to] = [this.around(edge.source), this.around(edge.target)];
      const key = [from < 0 ? edge.source : `f${from}`, to < 0 ? `e${i}` : `f${to}`].join();
      const group = this.svg.querySelector(`[data-edge="${i}"]`);
      hide(group, (from >= 0 && from === to) || seen.has(key));
      seen.add(key);
      const points = this.way(edge.points, from, to);
      const [x, , y] = points[points.length - 1];
      group.querySelector(".edge").setAttribute("d", curve(points));
      group.querySelector(".tip").setAttribute("d", `M${x} ${y}l-4 -8h8z`);
    });
  }

  // The points of an edge; those inside a folded frame become one, at its box or beside it.
  way(points, from, to) {
    const found = [];
    let before = -1;
    points.forEach(([x, top, bottom]) => {
      const i = this.folded.find(
        (j) => this.data.frames[j].top <= top && bottom <= this.data.frames[j].bottom,
      ) ?? -1;
      if (i < 0) {
        found.push([x, this.at(top), this.at(bottom)]);
      } else {
        const frame = this.data.frames[i];
        const half = frame.width / 2;
        const [y, end] = [this.at(frame.top), this.at(frame.bottom)];
        let point = [Math.min(Math.max(x, frame.x - half + 14), frame.x + half - 14), y, end];
        if (i === from) point[1] = (y + end) / 2;
        else if (i === to) point[2] = y;
        else if (Math.abs(x - frame.x) > half + 14) point[0] = x;
        else point[0] = frame.x + (x < frame.x ? -1 : 1) * (half + 14);
        if (i === before) {
          if (i === from) found.pop(); // the edge leaves the box at the last of these points
          else point = null;
        }
        if (point) found.push(point);
      }
      before = i;
    });
    return found;
  }

  // node: the current one, or -1; edges: those along which its lines read or contribute; target:
  // the node whose cotangent grows; done: the last node that is computed.
  show({ node, edges, target, done, backward }) {
    this.svg.classList.toggle("backward", backward);
    this.svg.querySelectorAll(".now, .target").forEach((e) => e.classList.remove("now", "target"));
    this.nodes.forEach((element, i) => {
      const record = element.classList.contains("record");
      element.classList.toggle("later", record && i > done);
    });
    this.boxes.forEach((box, i) => {
      box.classList.toggle("later", Math.min(...this.data.frames[i].places) > done);
    });
    for (const i of edges) this.svg.querySelector(`[data-edge="${i}"]`)?.classList.add("now");
    if (target >= 0) this.shown(target).classList.add("target");
    if (node >= 0) this.shown(node).classList.add("now");
    this.center();
  }

  shown(node) {
    const frame = this.around(node);
    return frame < 0 ? this.nodes[node] : this.boxes[frame];
  }

  center() {
    const part = this.svg.querySelector("[data-node].now");
    if (!part) return this.pane.scrollTo(0, 0);
    const [a, b] = [part.getBoundingClientRect(), this.pane.getBoundingClientRect()];
    this.pane.scrollBy({
      left: a.left + a.width / 2 - b.left - b.width / 2,
      top: a.top + a.height / 2 - b.top - b.height / 2,
    });
  }
}
