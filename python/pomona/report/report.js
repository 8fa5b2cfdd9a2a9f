/* Draws the report from the JSON in #data, which pomona/report/content.py collects.
 *
 * summary, curve, classes[{label, photos, errors}], sample{photos, of, seed}
 * photos{path[], label[] (indices of classes), thumbnail[] (JPEGs in base64, or empty)}
 * missing: why thumbnails are empty and how to get them, or null
 * maps{pca, flat, solid}: one list per axis, or null
 * broken[[path, label, reason]], warned[[path, label, warning]], notes[sentence], sheets[[photo]], neighbours[{photo, near[[photo, distance]]}]
 * duplicates{pairs[[photo, photo, distance]], found, threshold}, outliers[[photo, distance]]
 * label_errors[[photo, nearest neighbour of the other class, votes]], classifiers[…]
 * A photo is an index of photos.
 *
 * Names and paths are untrusted, so they reach the page only as text (textContent).
 */
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { photos, classes, summary } = data;

  // The palette of Okabe and Ito for all kinds of colour vision, without black and yellow. With 6
  // colours and 7 shapes, neighbours in the legend differ in both.
  const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];
  // scatter3d draws crosses as letters, for which fonts may be missing; it draws these as shapes.
  const SHAPES = ["circle", "square", "diamond", "cross", "circle-open", "square-open", "diamond-open"];
  const KEYS_PAN = 0.15; // share of the map per key press
  const KEYS_TURN = 0.2; // radians
  const ZOOM = 1.25;
  const MANY = 1500; // from this many photos on, markers are smaller

  const CONFUSIONS_LISTED = 20;
  const TALL = 24; // from this many classes on, the contact sheet scrolls in its own frame

  const colourOf = (row) => COLOURS[row % COLOURS.length];
  const shapeOf = (row) => SHAPES[row % SHAPES.length];
  const byId = (id) => document.getElementById(id);
  const count = (n, thing) => `${n.toLocaleString("en")} ${n === 1 ? thing : thing.replace(/([^s])$/, "$1s").replace(/ss$/, "sses")}`;
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const labelName = (row) => classes[row].label || "(no label)";
  const labelOf = (photo) => labelName(photos.label[photo]);
  const fileOf = (photo) => photos.path[photo].split("/").pop();

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") made.textContent = value;
      else if (value !== false && value != null) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  function photo(row, caption, lazy = true) {
    const thumbnail = photos.thumbnail[row];
    const name = `${labelOf(row)}: ${fileOf(row)}`;
    const picture = thumbnail
      ? element("img", { src: `data:image/jpeg;base64,${thumbnail}`, alt: name, loading: lazy && "lazy" })
      : element("div", { class: "gone", text: "This photo can no longer be read." });
    const figure = element("figure", { class: "photo", title: photos.path[row] }, picture);
    if (caption) figure.append(element("figcaption", {}, ...[].concat(caption)));
    return figure;
  }

  const nothing = (text) => element("p", { class: "empty", text });

  function table(head, rows) {
    const cell = (tag, value) => element(tag, { class: typeof value === "number" ? "n" : false,
      scope: tag === "th" && "col", text: typeof value === "number" ? value.toLocaleString("en") : value });
    return element("table", {},
      element("thead", {}, element("tr", {}, ...head.map((name, at) =>
        element("th", { scope: "col", class: rows.length && typeof rows[0][at] === "number" ? "n" : false, text: name })))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((value) => cell("td", value))))));
  }

  // Headline

  const STAGES = { list: "Listing the photos", features: "Computing features", pca: "Fitting the PCA",
    projection: "Projecting onto the PCA", model: "Saving the PCA" };

  function headline() {
    const labelled = classes.length;
    byId("headline").textContent =
      `${count(summary.photos, "photo")} of ${count(labelled, "class")}, ${count(summary.errors, "error")}`;
    byId("where").textContent = `Photos: ${summary.images.join(", ")}. Results: ${summary.output}`;
    const facts = [
      ["Photos", summary.photos.toLocaleString("en")],
      ["Classes", labelled.toLocaleString("en")],
      ["Unreadable photos", summary.errors.toLocaleString("en")],
      ...(summary.warnings ? [["Photos with a warning", summary.warnings.toLocaleString("en")]] : []),
      ...(summary.turned ? [["Orientation not applied", summary.turned.toLocaleString("en")]] : []),
      ["Model", summary.model.name],
      ...(summary.decode ? [["Decode options", summary.decode]] : []),
      ["Features per photo", `${summary.dim.toLocaleString("en")}, reduced to ${summary.k.toLocaleString("en")} components`],
      ["Speed", summary.featurized ? `${summary.images_per_second.toLocaleString("en")} photos/s` : "no new photos"],
      ...Object.entries(summary.seconds).map(([stage, took]) => [STAGES[stage] ?? `Time: ${stage}`, `${took.toFixed(1)} s`]),
    ];
    byId("facts").append(...facts.map(([name, value]) =>
      element("div", {}, element("dt", { text: name }), element("dd", { text: value }))));
    const versions = Object.entries(summary.versions).map(([name, version]) => `${name} ${version}`);
    byId("footer").textContent = `Run finished ${summary.finished}. Model ${summary.model.name}, sha256 `
      + `${summary.model.sha256}. ${versions.join(", ")}. Sample drawn with seed ${data.sample.seed}.`;
  }

  // Classes, photos, unreadable photos

  function balance() {
    const most = Math.max(...classes.map((each) => each.photos));
    const order = classes.map((_, row) => row).sort((one, two) => classes[two].photos - classes[one].photos);
    byId("balance").append(...order.map((row) => {
      const { photos: total, errors } = classes[row];
      const share = (n) => `width:${(100 * n) / most}%`;
      const track = element("div", { class: "track" }, element("div", { class: "bar", style: share(total - errors) }));
      if (errors) track.append(element("div", { class: "bar bad", style: share(errors), title: `${errors} cannot be read` }));
      return element("li", {}, element("span", { class: "name", title: labelName(row), text: labelName(row) }), track,
        element("span", { class: "number", text: total.toLocaleString("en") }));
    }));
  }

  function sheets() {
    byId("missing").textContent = data.missing ?? "";
    byId("missing").hidden = !data.missing;
    if (data.sheets.length > TALL) byId("sheets").className = "tall";
    byId("sheets").append(...data.sheets.map((rows) => {
      const row = photos.label[rows[0]];
      return element("div", { class: "sheet" },
        element("h3", { text: labelName(row) }, element("small", { text: count(classes[row].photos, "photo") })),
        element("div", { class: "strip" }, ...rows.map((each) => photo(each))));
    }));
  }

  function broken() {
    byId("notes").append(...data.notes.map((text) => element("p", { class: "lead", text })));
    if (data.warned.length) {
      byId("warned-list").append(table(["Photo", "Warning"], data.warned.map(([path, , warning]) => [path, warning])));
    } else {
      byId("warned-list").remove();
    }
    const list = byId("broken-list");
    if (!summary.errors) {
      byId("broken-lead").textContent = "None: all photos could be read.";
      list.remove();
      return;
    }
    const rest = summary.errors - data.broken.length;
    byId("broken-lead").textContent =
      `${count(summary.errors, "photo")} could not be read and ${summary.errors === 1 ? "is" : "are"} missing from the sections below. `
      + "If a photo was truncated in a transfer, copy it again."
      + (rest > 0 ? ` The first ${data.broken.length} are listed; the column “error” of the features has all of them.` : "");
    list.append(table(["Photo", "Error"], data.broken.map(([path, , reason]) => [path, reason])));
  }

  // The variance curve

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(`--${name}`).trim();
    return { ground: value("ground"), ink: value("ink"), muted: value("muted"), line: value("line"), panel: value("panel"),
      accent: value("accent"), warm: value("warm"), grey: value("grey") };
  }

  function curve() {
    const k = summary.k;
    const kept = data.curve[k - 1];
    byId("variance-lead").textContent =
      `The model describes each photo by ${summary.dim.toLocaleString("en")} features, many of which are correlated. `
      + `${count(k, "principal component")} ${k === 1 ? "explains" : "explain"} ${percent(kept)} of their variance.`;
    const colours = theme();
    const end = Math.min(data.curve.length, Math.max(k * 2, 10));
    const x = data.curve.slice(0, end).map((_, at) => at + 1);
    const axis = { color: colours.muted, gridcolor: colours.line, zeroline: false, fixedrange: true };
    Plotly.react("curve", [
      { x, y: data.curve.slice(0, end), mode: "lines", line: { color: colours.accent, width: 3 }, name: "",
        hovertemplate: "%{x} components: %{y:.1%}<extra></extra>" },
      { x: [k], y: [kept], mode: "markers+text", marker: { color: colours.warm, size: 12, symbol: "diamond" },
        text: [`${count(k, "component")}: ${percent(kept)}`], textposition: "bottom right",
        textfont: { color: colours.warm, size: 14 }, hoverinfo: "skip", cliponaxis: false },
    ], {
      paper_bgcolor: colours.ground, plot_bgcolor: colours.ground, showlegend: false,
      font: { color: colours.ink }, margin: { l: 60, r: 20, t: 10, b: 50 },
      xaxis: { ...axis, title: { text: "components" }, range: [0, end * 1.02] },
      yaxis: { ...axis, title: { text: "explained variance" }, tickformat: ".0%", range: [0, 1.04] },
      shapes: [{ type: "line", x0: k, x1: k, y0: 0, y1: kept, line: { color: colours.warm, width: 1.5, dash: "dash" } }],
    }, { displayModeBar: false, responsive: true });
  }

  // The maps

  const webgl = (() => {
    const context = document.createElement("canvas").getContext("webgl");
    return Boolean(context);
  })();
  const ticked = new Set(); // indices of classes; if empty, all are shown
  const isShown = (row) => !ticked.size || ticked.has(photos.label[row]);
  const maps = [];

  class AMap {
    constructor(box) {
      this.name = box.dataset.map;
      this.points = data.maps[this.name];
      this.solid = this.name === "solid";
      this.box = box;
      this.current = null;
      if (!this.points || (this.solid && !webgl)) {
        box.style.height = "auto";
        box.append(nothing(this.points ? "This map needs WebGL, which this browser does not provide."
          : "There are too few photos or components for this map."));
        return;
      }
      this.draw = element("div", { class: "draw", tabindex: "0", role: "application", "aria-describedby": "keys",
        "aria-label": `Map of ${count(photos.path.length, "photo")}, ${this.solid ? "three dimensions" : "two dimensions"}` });
      this.names = element("div", { class: "names", "aria-hidden": "true" });
      this.tip = element("div", { class: "tip", "aria-live": "polite" });
      this.tip.hidden = true;
      box.append(this.draw, this.names, this.tip);
      const [x, y = x.map(() => 0)] = this.points;
      this.points = this.solid ? this.points : [x, y];
      if (!this.solid) this.home = [span(x), span(y)];
      this.pointer = [0, 0];
      box.addEventListener("mousemove", (event) => {
        const frame = box.getBoundingClientRect();
        this.pointer = [event.clientX - frame.left, event.clientY - frame.top];
      });
      this.draw.addEventListener("keydown", (event) => this.key(event));
      this.draw.addEventListener("pointerdown", () => this.draw.focus({ preventScroll: true }));
      this.draw.addEventListener("wheel", (event) => {
        if (document.activeElement !== this.draw) return;
        event.preventDefault();
        this.zoom(event.deltaY > 0 ? 1 / ZOOM : ZOOM);
      }, { passive: false });
      maps.push(this);
      this.paint();
      this.draw.on("plotly_hover", (event) => {
        const row = event.points[0].customdata;
        if (row !== undefined) this.show(row, this.pointer);
      });
      this.draw.on("plotly_unhover", () => this.hide());
      this.draw.on("plotly_relayout", () => this.place());
      this.draw.on("plotly_relayouting", () => this.place());
    }

    traces() {
      const rows = photos.path.map((_, row) => row);
      const shown = rows.filter(isShown);
      const hidden = ticked.size ? rows.filter((row) => !isShown(row)) : [];
      const size = (rows.length > MANY ? 5 : 8) - (this.solid ? 3 : 0);
      const colours = theme();
      const trace = (of, marker) => {
        const [x, y, z] = this.points.map((axis) => of.map((row) => axis[row]));
        return { type: this.solid ? "scatter3d" : webgl ? "scattergl" : "scatter", mode: "markers", x, y,
          ...(this.solid ? { z } : {}), marker, hoverinfo: "none" };
      };
      const current = this.current === null ? [] : [this.current];
      return [
        { ...trace(hidden, { color: colours.grey, size: size * 0.6, opacity: 0.5 }), hoverinfo: "skip" },
        { ...trace(shown, { color: shown.map((row) => colourOf(photos.label[row])), size,
          symbol: shown.map((row) => shapeOf(photos.label[row])), opacity: this.solid ? 1 : 0.85,
          line: this.solid ? { width: 0 } : { color: shown.map((row) => colourOf(photos.label[row])),
            width: shown.map((row) => (shapeOf(photos.label[row]).endsWith("open") ? 2 : 0)) } }), customdata: shown },
        { ...trace(current, { color: colours.ink, size: size + 10, symbol: "circle-open", line: { width: 3, color: colours.ink } }),
          hoverinfo: "skip" },
      ];
    }

    layout() {
      const colours = theme();
      const bare = { showticklabels: false, zeroline: false, showgrid: true, gridcolor: colours.line, ticks: "", title: { text: "" } };
      const base = { paper_bgcolor: colours.ground, plot_bgcolor: colours.ground, showlegend: false, uirevision: "kept",
        margin: { l: 0, r: 0, t: 0, b: 0 }, hovermode: "closest", font: { color: colours.ink } };
      if (this.solid) {
        const side = { ...bare, showspikes: false, showbackground: false, linecolor: colours.line };
        const camera = this.draw.layout?.scene?.camera ?? { eye: { x: 1.4, y: 1.4, z: 0.8 } };
        return { ...base, scene: { xaxis: side, yaxis: side, zaxis: side, aspectmode: "cube", dragmode: "orbit", camera } };
      }
      const [x, y] = this.ranges();
      return { ...base, dragmode: "pan", xaxis: { ...bare, range: x }, yaxis: { ...bare, range: y } };
    }

    ranges() {
      const now = this.draw.layout;
      return now?.xaxis?.range ? [[...now.xaxis.range], [...now.yaxis.range]] : this.home.map((each) => [...each]);
    }

    paint() {
      const options = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false };
      Plotly.react(this.draw, this.traces(), this.layout(), options);
      this.middles = this.solid ? [] : this.middlesOfClasses();
      this.place();
    }

    /* The median place of each class that is shown, large classes first. */
    middlesOfClasses() {
      const members = new Map();
      photos.label.forEach((label, row) => {
        if (!isShown(row)) return;
        if (!members.has(label)) members.set(label, []);
        members.get(label).push(row);
      });
      return [...members].sort((one, two) => two[1].length - one[1].length || one[0] - two[0])
        .map(([label, rows]) => [label, this.points.map((axis) => median(rows.map((row) => axis[row])))]);
    }

    /* Put the classes' names at their middles, each where it covers no other. */
    place() {
      if (this.solid) return;
      const [[left, right], [low, high]] = this.ranges();
      const { clientWidth: width, clientHeight: height } = this.box;
      const taken = [];
      const spans = [];
      for (const [label, [x, y]] of this.middles) {
        const across = ((x - left) / (right - left)) * width;
        const down = (1 - (y - low) / (high - low)) * height;
        const wide = textWidth(labelName(label)) + 8;
        const spot = SPOTS.map(([dx, dy]) => [across - wide / 2 + dx * (wide / 2 + 8), down - 8 + dy])
          .find(([a, b]) => a >= 0 && b >= 0 && a + wide <= width && b + 16 <= height
            && taken.every(([c, d, e]) => a + wide < c || c + e < a || b + 17 < d || d + 17 < b));
        if (!spot) continue;
        taken.push([...spot, wide]);
        spans.push(element("span", { style: `left:${spot[0]}px;top:${spot[1]}px`, text: labelName(label) }));
      }
      this.names.replaceChildren(...spans);
    }

    show(row, at) {
      this.tip.replaceChildren(photo(row, [element("b", { text: labelOf(row) }), fileOf(row)], false));
      this.tip.hidden = false;
      const { clientWidth: width, clientHeight: height } = this.box;
      const [wide, tall] = [this.tip.offsetWidth, this.tip.offsetHeight];
      const beside = at[0] + 16 + wide > width ? at[0] - 16 - wide : at[0] + 16;
      this.tip.style.left = `${Math.max(4, beside)}px`;
      this.tip.style.top = `${Math.max(4, Math.min(at[1] - tall / 2, height - tall - 4))}px`;
    }

    hide() {
      this.tip.hidden = true;
    }

    step(by) {
      const shown = photos.path.map((_, row) => row).filter(isShown);
      if (!shown.length) return;
      const at = shown.indexOf(this.current);
      this.current = shown[at < 0 ? (by > 0 ? 0 : shown.length - 1) : (at + by + shown.length) % shown.length];
      this.paint();
      this.show(this.current, [0, 0]);
    }

    move(dx, dy) {
      if (this.solid) return this.turn(dx, dy);
      const [x, y] = this.ranges();
      const moved = (range, by) => range.map((edge) => edge + by * KEYS_PAN * (range[1] - range[0]));
      Plotly.relayout(this.draw, { "xaxis.range": moved(x, dx), "yaxis.range": moved(y, dy) });
    }

    zoom(by) {
      if (this.solid) {
        const camera = this.camera();
        const eye = Object.fromEntries(Object.entries(camera.eye).map(([axis, at]) => [axis, at / by]));
        return Plotly.relayout(this.draw, { "scene.camera": { ...camera, eye } });
      }
      const nearer = ([low, high]) => {
        const [centre, half] = [(low + high) / 2, (high - low) / 2 / by];
        return [centre - half, centre + half];
      };
      const [x, y] = this.ranges();
      return Plotly.relayout(this.draw, { "xaxis.range": nearer(x), "yaxis.range": nearer(y) });
    }

    turn(dx, dy) {
      const camera = this.camera();
      const { x, y, z } = camera.eye;
      const far = Math.hypot(x, y, z);
      const around = Math.atan2(y, x) + dx * KEYS_TURN;
      const up = Math.max(-1.5, Math.min(1.5, Math.asin(z / far) + dy * KEYS_TURN));
      const eye = { x: far * Math.cos(up) * Math.cos(around), y: far * Math.cos(up) * Math.sin(around), z: far * Math.sin(up) };
      return Plotly.relayout(this.draw, { "scene.camera": { ...camera, up: { x: 0, y: 0, z: 1 }, eye } });
    }

    camera() {
      const camera = this.draw.layout.scene.camera;
      return { ...camera, eye: { x: 1.4, y: 1.4, z: 0.8, ...camera?.eye } };
    }

    reset() {
      if (this.solid) return Plotly.relayout(this.draw, { "scene.camera": { eye: { x: 1.4, y: 1.4, z: 0.8 } } });
      return Plotly.relayout(this.draw, { "xaxis.range": [...this.home[0]], "yaxis.range": [...this.home[1]] });
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const act = {
        ArrowLeft: () => this.move(-1, 0), ArrowRight: () => this.move(1, 0),
        ArrowUp: () => this.move(0, 1), ArrowDown: () => this.move(0, -1),
        "+": () => this.zoom(ZOOM), "=": () => this.zoom(ZOOM), "-": () => this.zoom(1 / ZOOM),
        n: () => this.step(1), p: () => this.step(-1), 0: () => this.reset(),
        Escape: () => { this.current = null; this.hide(); this.paint(); },
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    }
  }

  // Positions of a name around the median of its class: horizontally in its widths, vertically in pixels.
  const SPOTS = [[0, 0], [0, -18], [0, 18], [1, 0], [-1, 0], [0, -36], [0, 36], [1, -18], [-1, 18], [1, 18], [-1, -18], [0, 54], [0, -54]];
  const pen = document.createElement("canvas").getContext("2d");

  function textWidth(text) {
    pen.font = '600 12px system-ui, "DejaVu Sans", sans-serif';
    return pen.measureText(text).width;
  }

  function median(values) {
    const sorted = values.sort((one, two) => one - two);
    return sorted[Math.floor(sorted.length / 2)];
  }

  function span(values) {
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    const margin = 0.06 * (high - low) || 1;
    return [low - margin, high + margin];
  }

  function glyph(row) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const [shape, open] = shapeOf(row).split("-");
    const path = document.createElementNS(svg.namespaceURI, "path");
    path.setAttribute("d", {
      circle: "M7 2a5 5 0 1 0 .01 0z", square: "M2.5 2.5h9v9h-9z", diamond: "M7 1l6 6-6 6-6-6z",
      cross: "M5 1h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
    }[shape]);
    path.setAttribute("fill", open ? "none" : colourOf(row));
    path.setAttribute("stroke", colourOf(row));
    path.setAttribute("stroke-width", open ? "2" : "0");
    for (const [name, value] of [["width", 14], ["height", 14], ["viewBox", "0 0 14 14"], ["aria-hidden", "true"]]) svg.setAttribute(name, value);
    svg.append(path);
    return svg;
  }

  function legend() {
    const list = byId("legend");
    const inSample = new Map();
    for (const label of photos.label) inSample.set(label, (inSample.get(label) ?? 0) + 1);
    const items = classes.map((_, row) => {
      const box = element("input", { type: "checkbox", value: row });
      box.addEventListener("change", () => {
        if (box.checked) ticked.add(row); else ticked.delete(row);
        refilter();
      });
      const label = element("label", { title: labelName(row) }, box, glyph(row), element("span", { class: "name", text: labelName(row) }),
        element("span", { class: "number", text: (inSample.get(row) ?? 0).toLocaleString("en") }));
      return element("li", {}, label);
    });
    list.append(...items);
    byId("search").addEventListener("input", (event) => {
      const wanted = plain(event.target.value);
      items.forEach((item, row) => { item.hidden = !plain(labelName(row)).includes(wanted); });
    });
    byId("all").addEventListener("click", () => {
      ticked.clear();
      for (const box of list.querySelectorAll("input")) box.checked = false;
      refilter();
    });
    showing();
  }

  const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

  function showing() {
    byId("showing").textContent = ticked.size
      ? `Showing ${ticked.size} of ${count(classes.length, "class")}`
      : `Showing all classes: select some to show only these`;
  }

  function refilter() {
    showing();
    for (const map of maps) {
      if (map.current !== null && !isShown(map.current)) { map.current = null; map.hide(); }
      map.paint();
    }
  }

  // Similar photos and photos to check

  function similar() {
    const three = (distance) => distance.toFixed(3);
    byId("neighbours").append(...(data.neighbours.length ? data.neighbours.map(({ photo: row, near }) =>
      element("div", { class: "row" }, photo(row, [element("b", { text: labelOf(row) })]),
        element("div", { class: "strip" }, ...near.map(([other, distance]) => photo(other, `${labelOf(other)}, ${three(distance)}`)))))
      : [nothing("There is only one photo.")]));
    const { pairs, found, threshold } = data.duplicates;
    byId("duplicates-lead").textContent = found
      ? `${count(found, "pair")} of photos in the sample ${found === 1 ? "is" : "are"} closer than ${threshold}: copies, or neighbouring `
        + `shots of one object. A test is too easy if one photo of a pair is used for training and the other for testing.`
        + (found > pairs.length ? ` The ${pairs.length} closest pairs are shown.` : "")
      : `No two photos in the sample are closer than ${threshold}.`;
    byId("duplicates").append(...pairs.map(([one, two, distance]) => element("div", { class: "pair" }, photo(one, fileOf(one)), photo(two, fileOf(two)),
      element("p", { text: `${labelOf(one)}${labelOf(one) === labelOf(two) ? "" : ` and ${labelOf(two)}`}; distance ${distance.toFixed(4)}` }))));
    byId("outliers").append(...data.outliers.map(([row, distance]) => photo(row, [element("b", { text: labelOf(row) }), `, ${fileOf(row)}, ${three(distance)}`])));
    byId("label-errors-lead").textContent = data.label_errors.length
      ? "Most nearest neighbours of the photo on the left are of another class; the nearest one is on the right. Either the two classes "
        + "are similar, or the label is wrong."
      : "None: the nearest neighbours of every photo are mostly of its own class.";
    byId("label-errors").append(...data.label_errors.map(([row, like]) => element("div", { class: "pair" },
      photo(row, fileOf(row)), photo(like, fileOf(like)), element("p", { text: `Labelled ${labelOf(row)}, but similar to ${labelOf(like)}` }))));
  }

  // Classifiers

  const HOLDOUTS = { random: "random photos", blocked: "ranges of views or groups" };
  const KINDS = { logistic: "Logistic regression", svm: "Support vector machine", forest: "Random forest" };
  const markup = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;"); // plotly.js interprets tags
  const share = (value) => (value === null ? "–" : percent(value));

  function classifiers() {
    if (!data.classifiers.length) return;
    byId("classifiers").hidden = false;
    const tests = data.classifiers.flatMap((training) => Object.entries(training.holdouts)
      .filter(([, metrics]) => metrics).map(([name, metrics]) => ({ training, name, metrics })));
    const kind = (training) => KINDS[training.classifier] ?? training.classifier;
    byId("scores").append(table(["Classifier", "Input", "Test on", "Training photos", "Test photos", "Accuracy", "Macro F1"],
      tests.map(({ training, name, metrics }) => [kind(training),
        `${training.dimensions.toLocaleString("en")} ${training.features === "pca" ? "components" : "features"}`, HOLDOUTS[name] ?? name,
        metrics.train, metrics.test, percent(metrics.accuracy), percent(metrics.macro_f1)])));
    for (const { training, name, metrics } of tests) {
      const box = element("details", { class: "test" }, element("summary", {
        text: `${kind(training)}, ${HOLDOUTS[name] ?? name}: accuracy ${percent(metrics.accuracy)}` }));
      box.addEventListener("toggle", () => { if (box.open && box.childElementCount === 1) detail(box, training, metrics); });
      byId("tests").append(box);
    }
    byId("tests").firstElementChild.open = true;
  }

  function detail(box, training, metrics) {
    const names = metrics.classes.map((each) => each.label || "(no label)");
    for (const note of [metrics.how, ...metrics.notes, ...training.notes]) box.append(element("p", { class: "note", text: note }));
    const confused = metrics.confusion.flatMap((row, is) => row.map((n, predicted) => ({ is, predicted, n })))
      .filter(({ is, predicted, n }) => n && is !== predicted).sort((one, two) => two.n - one.n);
    box.append(element("h3", { text: "Most frequent confusions" }), confused.length
      ? table(["Class", "Predicted as", "Photos"], confused.slice(0, CONFUSIONS_LISTED).map(({ is, predicted, n }) => [names[is], names[predicted], n]))
      : nothing("None: every test photo was classified correctly."));
    if (confused.length > CONFUSIONS_LISTED) {
      box.append(element("p", { class: "note", text: `And ${confused.length - CONFUSIONS_LISTED} more, all in the matrix below.` }));
    }
    box.append(element("h3", { text: "Confusion matrix" }),
      element("p", { text: "Rows are the true classes, columns the predicted ones. Correct predictions, on the diagonal, are blue; errors are orange." }));
    const frame = element("div", { class: "matrix", tabindex: "0", role: "img", "aria-label": "Confusion matrix; the table above lists the confusions" });
    const plot = element("div");
    frame.append(plot);
    box.append(frame);
    matrix(plot, names, metrics.confusion);
    box.append(element("h3", { text: "Metrics per class" }),
      element("p", { text: "Recall: share of the photos of the class that were predicted as such. Precision: share of the photos predicted as the class that belong to it." }),
      element("div", { class: "scroll", tabindex: "0" }, table(["Class", "Recall", "Precision", "F1", "Test photos", "Training photos"], metrics.classes.map((each, at) =>
        [names[at], share(each.recall), share(each.precision), share(each.f1), each.support, each.trained]))));
  }

  function matrix(plot, names, confusion) {
    const colours = theme();
    const cell = names.length > 40 ? 13 : 24;
    const total = confusion.map((row) => row.reduce((sum, n) => sum + n, 0));
    const room = Math.min(200, 20 + Math.max(...names.map(textWidth)));
    const short = names.map((name) => markup(name.length > 28 ? `${name.slice(0, 27)}…` : name));
    const at = names.map((_, row) => row);
    const axis = { tickvals: at, ticktext: short, tickfont: { size: cell > 13 ? 12 : 10, color: colours.ink }, showgrid: false, zeroline: false,
      fixedrange: true, ticks: "", range: [-0.5, names.length - 0.5], automargin: false };
    Plotly.newPlot(plot, [{ type: "heatmap", x: at, y: at, zmin: -1, zmax: 1, showscale: false, xgap: 1, ygap: 1,
      colorscale: [[0, colours.warm], [0.5, colours.panel], [1, colours.accent]],
      z: confusion.map((row, is) => row.map((n, predicted) => (n && total[is] ? ((is === predicted ? 1 : -1) * (0.25 + 0.75 * n / total[is])) : 0))),
      text: confusion.map((row, is) => row.map((n, predicted) => `${n} of ${total[is]} photos of ${markup(names[is])}<br>predicted as ${markup(names[predicted])}`)),
      hovertemplate: "%{text}<extra></extra>" }], {
      width: names.length * cell + room + 10, height: names.length * cell + room + 10, margin: { l: room, t: room, r: 10, b: 10 },
      paper_bgcolor: colours.ground, plot_bgcolor: colours.ground, font: { color: colours.ink },
      xaxis: { ...axis, side: "top", tickangle: -90 }, yaxis: { ...axis, range: [names.length - 0.5, -0.5] },
    }, { displayModeBar: false });
  }

  headline();
  balance();
  sheets();
  broken();
  byId("sampled").textContent = data.sample.photos < data.sample.of
    ? `A sample of ${count(data.sample.photos, "photo")} of ${data.sample.of.toLocaleString("en")}, in proportion to the classes.`
    : `All ${count(data.sample.photos, "readable photo")}.`;
  similar();
  classifiers();
  legend();
  curve();
  for (const box of document.querySelectorAll(".map")) new AMap(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    curve();
    for (const map of maps) map.paint();
  });
  addEventListener("resize", () => {
    for (const map of maps) map.place();
  });
  if (matchMedia("(max-width: 52rem)").matches) byId("legend-box").open = false;
  if (!data.classifiers.length) byId("to-classifiers").remove();
  document.documentElement.dataset.ready = "yes";
})();
