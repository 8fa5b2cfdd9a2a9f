/* The classifiers and what they mix up. */

const CONFUSIONS_LISTED = 20;
const NUMBERED = 40; // up to this many classes, the cells of a matrix show their numbers

const ratio = (value) => (value === null ? "–" : percent(value));
const known = (prefix, name) => (text[`${prefix}.${name}`] ? say(`${prefix}.${name}`) : name);

function classifiers() {
  if (!data.classifiers.length) return;
  byId("classifiers").hidden = byId("to-classifiers").hidden = false;
  const tests = data.classifiers.flatMap((training) => Object.entries(training.holdouts)
    .filter(([, metrics]) => metrics).map(([name, metrics]) => ({ training, name, metrics })));
  byId("scores").append(table(["classifier", "input", "holdout", "train", "test", "accuracy", "f1"].map((name) => say(`scores.${name}`)),
    tests.map(({ training, name, metrics }) => [known("classifier", training.classifier),
      say(training.features === "pca" ? "components" : "features", { n: training.dimensions }), known("holdout", name),
      metrics.train, metrics.test, percent(metrics.accuracy), percent(metrics.macro_f1)])));
  for (const { training, name, metrics } of tests) {
    const box = element("details", { class: "test" }, element("summary", {
      text: say("scores.line", { classifier: known("classifier", training.classifier), holdout: known("holdout", name), accuracy: percent(metrics.accuracy) }) }));
    box.addEventListener("toggle", () => { if (box.open && box.childElementCount === 1) detail(box, training, metrics); });
    byId("tests").append(box);
  }
  byId("tests").firstElementChild.open = true;
}

function detail(box, training, metrics) {
  const names = metrics.classes.map((each) => nameOf(each.label));
  if (training.outdated) box.append(element("p", { class: "note", text: say("classifiers.outdated") }));
  for (const note of [metrics.how, ...metrics.notes, ...training.notes]) box.append(element("p", { class: "note", text: note, ...foreign }));
  const confused = metrics.confusion.flatMap((row, is) => row.map((n, predicted) => ({ is, predicted, n })))
    .filter(({ is, predicted, n }) => n && is !== predicted).sort((one, two) => two.n - one.n);
  const pairs = element("div", { class: "mistakes" });
  const showPairs = (is, predicted) => mistakes(pairs, metrics, names, is, predicted);
  box.append(element("h3", { text: say("confusions.title") }));
  if (confused.length) {
    box.append(element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": say("confusions.title") },
      table([say("class"), say("confusions.as"), say("fact.photos"), ""], confused.slice(0, CONFUSIONS_LISTED).map(({ is, predicted, n }) => [names[is], names[predicted], n,
        button(say("confusions.show"), () => { showPairs(is, predicted); pairs.scrollIntoView({ block: "nearest" }); },
          { "aria-label": say("confusions.show-of", { label: names[is], predicted: names[predicted] }) })]))));
  } else {
    box.append(nothing(say("confusions.none")));
  }
  if (confused.length > CONFUSIONS_LISTED) box.append(element("p", { class: "note", text: say("confusions.more", { n: confused.length - CONFUSIONS_LISTED }) }));
  box.append(pairs, element("h3", { text: say("matrix.title") }), element("p", { text: say("matrix.lead") }),
    matrix(names, metrics.confusion, showPairs),
    element("h3", { text: say("metrics.title") }), element("p", { text: say("metrics.lead") }),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": say("metrics.title") },
      table([say("class"), ...["recall", "precision", "class-f1", "test", "train"].map((name) => say(`scores.${name}`))], metrics.classes.map((each, at) =>
        [names[at], ratio(each.recall), ratio(each.precision), ratio(each.f1), each.support, each.trained]))));
  showPairs();
}

/* Photos that were predicted as another class, each beside the training photo of that class nearest to it. */
function mistakes(box, metrics, names, is, predicted) {
  const chosen = metrics.mistakes.map((mistake, at) => ({ mistake, rows: metrics.mistake_photos?.[at] ?? [null, null] }))
    .filter(({ mistake: [, label, as] }) => is === undefined || (label === metrics.classes[is].label && as === metrics.classes[predicted].label));
  box.hidden = !metrics.mistakes.length;
  const list = element("div", { class: "found" });
  const heading = is === undefined ? say("mistakes.title", { n: metrics.mistakes.length }) : say("mistakes.of", { label: names[is], predicted: names[predicted] });
  box.replaceChildren(element("h3", { text: heading }),
    element("p", {}, chosen.length ? say("mistakes.lead") : say("mistakes.unlisted"), " ",
      ...(is === undefined ? [] : [button(say("mistakes.all"), () => mistakes(box, metrics, names))])),
    list, portions(list, chosen, ({ mistake: [path, label, as], rows: [row, like] }) => {
      const pair = element("div", { class: "pair" }, tile(row, [element("b", { text: nameOf(label) }), fileName(path)], path));
      if (like !== null) pair.append(tile(like, [element("b", { text: labelOf(like) }), fileName(photos.path[like])]));
      return element("div", { class: "finding" }, pair, element("p", { text: say("mistakes.as", { label: nameOf(label), predicted: nameOf(as) }) }));
    }, TILES));
}

function matrix(names, confusion, showPairs) {
  const total = confusion.map((row) => row.reduce((sum, n) => sum + n, 0));
  const numbered = names.length <= NUMBERED;
  const head = (name, scope) => element("th", { scope, title: name }, element("span", { text: name }));
  const cell = (n, is, predicted) => {
    const made = element("td", n ? { class: is === predicted ? "right" : "wrong",
      style: `--share:${Math.round(25 + (75 * n) / total[is])}%`, "data-is": is, "data-predicted": predicted,
      title: say("matrix.cell", { count: n, n: total[is], label: names[is], predicted: names[predicted] }) } : {});
    if (n && numbered) made.textContent = formatted(n);
    return made;
  };
  const made = element("table", { class: numbered ? "confusion" : "confusion dense" },
    element("thead", {}, element("tr", {}, element("td"), ...names.map((name) => head(name, "col")))),
    element("tbody", {}, ...confusion.map((row, is) => element("tr", {}, head(names[is], "row"), ...row.map((n, predicted) => cell(n, is, predicted))))));
  made.addEventListener("click", (event) => {
    const { is, predicted } = event.target.dataset;
    if (is !== undefined && is !== predicted) showPairs(Number(is), Number(predicted));
  });
  return element("div", { class: "matrix", tabindex: "0", role: "region", "aria-label": say("matrix.name") }, made);
}
