/* The sections around the maps: headline, classes, photos, variance, comparison, about. */

const TALL = 24; // from this many classes on, the contact sheet scrolls in its own frame

const STAGES = ["list", "features", "pca", "projection", "model"];

function headline() {
  byId("headline").textContent = [say("photos", { n: summary.photos }), say("classes", { n: classes.length }),
    say("errors", { n: summary.errors })].reduce((line, part, at) => say(`headline.${at}`, { line, part }));
  byId("where").textContent = say("where", { images: summary.images.join(", "), output: summary.output });
  const facts = [
    [say("fact.photos"), formatted(summary.photos)],
    [say("fact.classes"), formatted(classes.length)],
    [say("fact.errors"), formatted(summary.errors)],
    ...(summary.warnings ? [[say("fact.warnings"), formatted(summary.warnings)]] : []),
    ...(summary.turned ? [[say("fact.turned"), formatted(summary.turned)]] : []),
    [say("fact.model"), summary.model.name],
    ...(summary.decode ? [[say("fact.decode"), summary.decode]] : []),
    [say("fact.features"), say("fact.reduced", { dim: summary.dim, n: summary.k })],
  ];
  byId("facts").append(...facts.map(([name, value]) => element("div", {}, element("dt", { text: name }), element("dd", { text: value }))));
}

function balance() {
  const most = Math.max(...classes.map((each) => each.photos));
  const order = classes.map((_, row) => row).sort((one, two) => classes[two].photos - classes[one].photos);
  byId("balance").append(...order.map((row) => {
    const { photos: total, errors } = classes[row];
    const share = (n) => `width:${(100 * n) / most}%`;
    const track = element("div", { class: "track" }, element("div", { class: "bar", style: share(total - errors) }));
    if (errors) track.append(element("div", { class: "bar bad", style: share(errors), title: say("classes.bad", { n: errors }) }));
    return element("li", {}, element("span", { class: "name", title: labelName(row), text: labelName(row) }), track,
      element("span", { class: "number", text: formatted(total) }));
  }));
}

function sheets() {
  const { missing } = data;
  byId("missing").hidden = !missing;
  if (missing) byId("missing").textContent = say(missing.reason === null ? "missing.elsewhere" : "missing", missing);
  if (data.sheets.length > TALL) byId("sheets").className = "tall";
  byId("sheets").append(...data.sheets.map((rows) => {
    const row = photos.label[rows[0]];
    return element("div", { class: "sheet" },
      element("h3", { text: labelName(row) }, element("small", { text: say("photos", { n: classes[row].photos }) })),
      strip(rows.map((each) => tile(each))));
  }));
}

// The variance curve

const PLOT = { width: 640, height: 300, left: 52, right: 16, top: 14, bottom: 40 };

function curve() {
  const { k } = summary;
  const kept = data.curve[k - 1];
  byId("variance-lead").textContent = say("variance.lead", { dim: summary.dim, components: say("components", { n: k }), n: k, share: percent(kept) });
  const end = Math.min(data.curve.length, Math.max(k * 2, 10));
  const { width, height, left, right, top, bottom } = PLOT;
  const x = (component) => left + ((width - left - right) * component) / end;
  const y = (share) => height - bottom - (height - top - bottom) * share;
  const svg = vector("svg", { viewBox: `0 0 ${width} ${height}` });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(vector("line", { class: "grid", x1: left, x2: width - right, y1: y(share), y2: y(share) }),
      vector("text", { x: left - 8, y: y(share) + 4, "text-anchor": "end" }, percent(share, 0)));
  }
  const step = Math.max(1, Math.ceil(end / 8));
  for (let component = step; component <= end; component += step) {
    svg.append(vector("text", { x: x(component), y: height - bottom + 18, "text-anchor": "middle" }, formatted(component)));
  }
  svg.append(vector("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, say("variance.axis")),
    vector("path", { class: "curve", d: `M${data.curve.slice(0, end).map((share, at) => `${x(at + 1)} ${y(share)}`).join("L")}` }),
    vector("path", { class: "kept", d: `M${x(k)} ${y(0)}V${y(kept)}` }), vector("circle", { class: "kept", cx: x(k), cy: y(kept), r: 6 }),
    vector("text", { class: "kept", x: x(k) + (x(k) > width / 2 ? -12 : 12), y: y(kept) + 24, "text-anchor": x(k) > width / 2 ? "end" : "start" },
      `${say("components", { n: k })}: ${percent(kept)}`));
  byId("curve").append(svg);
}

// The comparison with an earlier set

function against() {
  const compared = data.against;
  if (!compared) return;
  byId("against").hidden = byId("to-against").hidden = false;
  byId("against-lead").textContent = say("against.lead", { uri: compared.uri, n: compared.photos });
  const box = byId("against-lists");
  for (const name of ["new", "gone", "far"]) {
    const { total, listed } = compared[name];
    const details = element("details", { class: "kind" },
      element("summary", {}, element("h3", { text: say(`against.${name}`) }), element("span", { class: "total", text: formatted(total) })),
      element("p", { class: "lead", text: say(`against.${name}.lead`) }));
    if (total > listed.length) details.append(element("p", { class: "note", text: say("against.first", { n: listed.length, total }) }));
    const list = element("div", { class: "strip" });
    details.append(list, portions(list, listed, (each) => {
      const { path, label, photo = rowOfPath.get(path) ?? null, score } = each;
      return tile(photo, [element("b", { text: nameOf(label) }), fileName(path), score == null ? "" : fixed(score, 1)], path);
    }, TILES));
    box.append(details);
  }
  byId("against-classes").append(table(["class", "here", "there", "distance", "far-share"].map((name) => say(`against.${name}`)),
    compared.classes.map((each) => [nameOf(each.label), each.here, each.there,
      each.distance === null ? "–" : fixed(each.distance, 3), each.far_share === null ? "–" : percent(each.far_share)])));
}

// About the results

function about() {
  const { seconds, versions, model } = summary;
  const stages = Object.entries(seconds).map(([stage, took]) => [STAGES.includes(stage) ? say(`stage.${stage}`) : stage, `${fixed(took, 1)} s`]);
  byId("stages").append(table([say("about.stage"), say("about.time")], stages));
  const lines = [
    // null: a file of features does not say when it was computed.
    ...(summary.featurized === null ? [] : [summary.featurized && summary.images_per_second ? say("about.speed", { n: summary.images_per_second }) : say("about.no-new")]),
    say("about.finished", { when: summary.finished }),
    say("about.model", { name: model.name, sha256: model.sha256 }),
    Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", "),
    say("about.seed", { seed: String(data.sample.seed) }),
  ];
  byId("about-lines").append(...lines.map((line) => element("li", { text: line })));
}
