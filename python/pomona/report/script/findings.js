/* Findings, and what a person decides about them. */

const COLUMNS = ["path", "finding", "score", "suggestion", "decision", "label", "other_path", "other_label"];
const TILES = 24; // photos of a kind that are shown at once
const [KEEP, LEAVE_OUT, RELABEL] = ["keep", "leave out", "relabel: "];
// Unreadable photos and photos with a warning have a reason in place of a suggestion.
const REASONED = ["unreadable", "warning"];

// Decisions

const decisions = new Map(data.decisions); // by path; at first those of the last findings.csv
const controls = new Map(); // the controls of a path
const STORE = `pomona ${summary.output} ${summary.finished}`;
const isKept = (() => {
  try {
    const kept = localStorage.getItem(STORE);
    if (kept) decisions.clear();
    for (const [path, decision] of JSON.parse(kept ?? "[]")) decisions.set(path, decision);
    localStorage.setItem(STORE, JSON.stringify([...decisions]));
    return true;
  } catch {
    return false; // some browsers have no storage for files
  }
})();

function decisionText(decision) {
  if (decision.startsWith(RELABEL)) return say("decision.relabel", { label: decision.slice(RELABEL.length) });
  return say({ "": "decision.none", [KEEP]: "decision.keep", [LEAVE_OUT]: "decision.leave-out" }[decision]);
}

function decide(path, decision) {
  if (decision) decisions.set(path, decision);
  else decisions.delete(path);
  for (const control of controls.get(path) ?? []) show(control, decision);
  count();
}

function show(control, decision) {
  if (![...control.options].some((option) => option.value === decision)) {
    control.append(element("option", { value: decision, text: decisionText(decision) }));
  }
  control.value = decision;
  control.classList.toggle("decided", decision !== "");
}

function count() {
  byId("decided").textContent = decisions.size ? say("decisions.made", { n: decisions.size }) : say("decisions.none");
  byId("forget").hidden = decisions.size === 0;
  if (isKept) localStorage.setItem(STORE, JSON.stringify([...decisions]));
}

/* The choices for photos; `labels` are the classes that they may go to. */
function choices(labels) {
  return ["", KEEP, LEAVE_OUT, ...labels.map((label) => RELABEL + label)]
    .map((value) => element("option", { value, text: decisionText(value) }));
}

/* A control for the decision about a photo of a class; `labels` are the classes that it may go to. */
function decisionOf(path, label, labels) {
  const own = classes[label]?.label;
  const control = element("select", { class: "decision", "aria-label": say("decision.of", { photo: fileName(path) }) },
    ...choices(labels.filter((each) => each && each !== own)));
  control.addEventListener("change", () => decide(path, control.value));
  controls.set(path, [...(controls.get(path) ?? []), control]);
  show(control, decisions.get(path) ?? "");
  return control;
}

/* A control that decides about many photos at once; `labels` are the classes that they may go to. */
function decideAll(title, labels, apply, ...others) {
  const control = element("select", { class: "decision" }, element("option", { value: "-", text: title }), ...others, ...choices(labels.filter(Boolean)));
  control.addEventListener("change", () => {
    apply(control.value);
    control.value = "-";
  });
  return control;
}

// The findings

function findings() {
  const { kinds, scope } = data.findings;
  const shown = kinds.filter((each) => each.total);
  byId("findings-lead").textContent = shown.length ? say("findings.lead", { n: scope.of }) : say("findings.nothing", { n: scope.of });
  if (scope.photos < scope.of) byId("findings-scope").textContent = say("findings.scope", { n: scope.photos, of: scope.of });
  byId("totals").append(...shown.map(({ kind, total }) => element("li", {},
    element("a", { href: `#finding-${kind}` }, element("b", { text: formatted(total) }), " ", say(`kind.${kind}`)))));
  byId("kinds").append(...shown.map(section));
  byId("findings-save").addEventListener("click", saveFindings);
  byId("forget").addEventListener("click", () => { for (const path of [...decisions.keys()]) decide(path, ""); });
  byId("kept").textContent = say(isKept ? "decisions.kept" : "decisions.lost");
  count();
}

function section({ kind, total, listed }) {
  const box = element("details", { class: "kind", id: `finding-${kind}` },
    element("summary", {}, element("h3", { text: say(`kind.${kind}`) }), element("span", { class: "total", text: formatted(total) })),
    element("p", { class: "lead", text: say(`kind.${kind}.lead`, { threshold: data.findings.thresholds[kind] ?? 0 }) }));
  if (total > listed.length) box.append(element("p", { class: "note", text: say("findings.first", { n: listed.length, total }) }));
  if (REASONED.includes(kind)) {
    box.append(element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": say(`kind.${kind}`) },
      table([say("photo"), say("reason"), say("decision")], listed.map((each) => [each.path, each.suggestion, control(each)]))));
  } else {
    const suggested = listed.some((each) => each.suggestion) ? [element("option", { value: "suggested", text: say("decision.suggested") })] : [];
    const all = decideAll(say("decision.all", { n: listed.length }), [], (choice) => {
      for (const each of listed) decide(each.path, choice === "suggested" ? each.suggestion : choice);
    }, ...suggested);
    const list = element("div", { class: "found" });
    box.append(element("p", { class: "acts" }, all), list, portions(list, listed, (each) => found(kind, each), TILES));
  }
  // Large sets stay fast, and the first kinds are what to look at first.
  box.open = kind === data.findings.kinds.find((each) => each.total).kind;
  return box;
}

function control({ path, label, suggestion }) {
  const labels = suggestion.startsWith(RELABEL) ? [suggestion.slice(RELABEL.length)] : [];
  return decisionOf(path, classes.findIndex((each) => each.label === label), labels);
}

function found(kind, each) {
  const { path, label, photo, score, other, other_path: otherPath, other_label: otherLabel, suggestion } = each;
  const pair = element("div", { class: "pair" },
    tile(photo, [element("b", { text: nameOf(label) }), fileName(path)], path));
  if (otherPath) pair.append(tile(other, [element("b", { text: nameOf(otherLabel) }), fileName(otherPath)], otherPath));
  const facts = [];
  if (score !== null) facts.push(say(`kind.${kind}.score`, { n: score, score: formatted(score, { maximumSignificantDigits: 3 }) }));
  if (suggestion) facts.push(say("suggestion", { suggestion: decisionText(suggestion) }));
  return element("div", { class: "finding" }, pair, element("p", { text: facts.join(" ") }), control(each));
}

/* The findings that the page has, and the decisions about photos that are in none of them. */
function saveFindings() {
  const rows = data.findings.kinds.flatMap(({ kind, listed }) => listed.map((each) => COLUMNS.map((column) =>
    ({ ...each, finding: kind, decision: decisions.get(each.path) ?? "" })[column])));
  const listed = new Set(rows.map(([path]) => path));
  const others = [...decisions].filter(([path]) => !listed.has(path))
    .map(([path, decision]) => [path, "", "", "", decision, classes[photos.label[rowOfPath.get(path)]]?.label ?? "", "", ""]);
  saveCsv("findings.csv", COLUMNS, [...rows, ...others]);
}
