// The steps and their contents: each record forward, then each contribution of a rule backward.

const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const labelled = (name) => {
  const { label } = data.variables[name];
  return label && label !== name ? `${name}, ${label}` : name;
};
const counted = (n, thing) => `${n} ${thing}${n === 1 ? "" : "s"}`;

const positions = [
  { phase: "start", node: -1 },
  ...data.forward.map((entry) => ({ phase: "forward", node: entry.node, entry })),
  { phase: "begin", node: data.begin.node, entry: data.begin },
  ...data.backward.map((entry) => ({ phase: "backward", node: entry.node, entry })),
  { phase: "end", node: -1 },
];
const cotangents = new Map(
  Object.entries(data.variables).map(([name, variable]) => [variable.cotangent, name]),
);
const FORWARD = data.forward.length;

// The sum of the contributions to a variable's cotangent up to a position, or null.
function total(name, position) {
  for (let i = Math.min(position, positions.length - 1); i > FORWARD; i--) {
    const { entry } = positions[i];
    if (entry && entry.name === name) return entry.total ?? entry.contribution;
  }
  return null;
}

function formula(entries) {
  const made = element("div", { class: "formula" });
  for (const entry of entries) {
    entry.maths.forEach((maths, i) => {
      made.append(markup("div", {}, maths), element("code", {}, entry.text[i]));
    });
  }
  return made;
}

function cards(title, figures) {
  const shown = figures.filter(Boolean);
  if (!shown.length) return [];
  return [element("h3", {}, title), element("div", { class: "cards" }, ...shown)];
}

function value(name) {
  const variable = data.variables[name];
  const note = [variable.dtype, variable.kind === "result" ? "" : variable.kind].join(" ").trim();
  return figure(labelled(name), note, variable.value);
}

function cotangent(name, position, note = "") {
  const summary = total(name, position);
  return summary && figure(data.variables[name].cotangent, note, summary);
}

// Figures of the variables and cotangents that an entry's lines read.
function mentioned(entry, position) {
  return entry.reads.map((name) => {
    if (name in data.variables) return value(name);
    return cotangents.has(name) ? cotangent(cotangents.get(name), position - 1) : null;
  });
}

function heading(phase, title, note) {
  return element(
    "h2", {}, element("span", { class: "phase" }, phase), ` ${title} `, element("small", {}, note),
  );
}

const CONTENT = {
  start() {
    const given = Object.keys(data.variables).filter((name) => data.variables[name].kind !== "result");
    return [
      heading("Start", "What is given", `${given.length} arrays`),
      ...cards("Inputs, parameters and constants", given.map(value)),
    ];
  },
  forward(entry, position) {
    return [
      heading(`Forward ${position} of ${FORWARD}`, entry.primitive, entry.scope && `in ${entry.scope}`),
      formula([entry]),
      ...cards("Gives", entry.makes.map(value)),
      ...cards("From", entry.takes.map(value)),
    ];
  },
  begin(entry) {
    return [
      heading("Backward", "The backward pass begins", `at ${entry.name}`),
      formula([entry]),
      ...cards("The cotangent of the result", [figure(entry.target, "", entry.total)]),
    ];
  },
  backward(entry, position) {
    const number = `${entry.number} of ${entry.of}`;
    const grown =
      entry.of === 1
        ? cards("The only contribution", [figure(entry.target, "", entry.contribution)])
        : cards("A contribution, and the sum so far", [
            figure(`contribution ${number}`, `to ${entry.target}`, entry.contribution),
            cotangent(entry.name, position, `after ${number}`),
          ]);
    return [
      heading(
        `Backward ${position - FORWARD - 1} of ${data.backward.length}`,
        `from ${entry.primitive}, w.r.t. ${entry.wrt}`, "",
      ),
      formula([entry]),
      ...grown,
      ...cards("From", mentioned(entry, position)),
    ];
  },
  end() {
    return [
      heading("End", "All gradients", `${data.gradients.length} arrays`),
      element("p", {}, "Each is the sum of its terms, which rules contribute, and of its paths from the result."),
      overview(),
    ];
  },
};

// A table of all gradients; the list below the steps has their heat maps and paths.
function overview() {
  const head = ["gradient", "shape", "terms", "paths", "norm"];
  const row = (tag, cells) => element("tr", {}, ...cells.map((cell) => element(tag, {}, cell)));
  const rows = data.gradients.map(({ name, counted: paths }) => {
    const { cotangent: title, value } = data.variables[name];
    const n = data.backward.filter((entry) => entry.name === name).length;
    const { norm } = total(name, positions.length - 1);
    return row("td", [title, value.shape, n, paths, norm ?? "-"]);
  });
  const parts = [element("thead", {}, row("th", head)), element("tbody", {}, ...rows)];
  return element("table", { class: "overview" }, ...parts);
}

function module(stop, frame) {
  const { phase } = positions[stop[0]];
  const entries = stop.map((i) => positions[i].entry);
  const last = stop[stop.length - 1];
  const things = phase === "forward" ? "record" : "contribution";
  const note = `${frame.kind}, folded: ${counted(entries.length, things)}`;
  const first = [heading(phase === "forward" ? "Forward" : "Backward", frame.label, note)];
  if (phase === "forward") {
    first.push(...cards("Gives", frame.makes.map(value)), ...cards("From", frame.takes.map(value)));
  } else {
    first.push(
      ...cards("From", frame.makes.map((name) => cotangent(name, last))),
      ...cards("Gives, so far", frame.takes.map((name) => cotangent(name, last))),
    );
  }
  return [...first, element("h3", {}, "Inside"), formula(entries)];
}

function gradient({ name, count, counted: number, paths }, position, now) {
  const entries = data.backward.filter((entry) => entry.name === name);
  const done = positions.slice(0, position + 1).filter((p) => p.entry?.wrt && p.entry.name === name);
  const variable = data.variables[name];
  const summary = total(name, position);
  const item = element("li", { id: `gradient-${name}`, "data-gradient": name, tabindex: "-1" });
  const note = `${done.length} of ${counted(entries.length, "contribution")}`;
  if (summary) item.append(figure(variable.cotangent, `${variable.kind} · ${note}`, summary, true));
  else {
    item.append(
      element("span", { class: "name" }, variable.cotangent),
      element("div", { class: "waiting" }, `${variable.value.shape} ${variable.kind} · ${note}`),
    );
  }
  item.classList.toggle("now", now.has(name));
  if (paths.length) item.append(waysOf(name, paths, item));
  else if (count > 1) item.append(element("p", { class: "stats" }, `${number} paths, too many to list`));
  return item;
}

const opened = new Set(); // gradients whose paths are shown

function waysOf(name, paths, item) {
  const details = element("details", {}, element("summary", {}, `${paths.length} paths`));
  const list = element("div", { class: "cards" });
  details.append(list);
  const show = () => {
    item.classList.toggle("open", details.open);
    opened[details.open ? "add" : "delete"](name);
    if (!details.open || list.children.length) return;
    for (const { way, value } of paths) list.append(figure(way, "", value, true));
  };
  details.open = opened.has(name);
  show();
  details.addEventListener("toggle", show);
  return details;
}
