/* The maps: a canvas with the marks, and an SVG above it with labels, rings and the lasso. */

const KEY_PAN = 0.15; // share of the map per key press
const KEY_TURN = 0.2; // radians
const ZOOM = 1.25;
const MARGIN = 0.94; // share of the map that the photos fill
const DRAG_TURN = 0.008; // radians per pixel
const MANY = 1500; // from this many photos on, marks are smaller
const REACH = { mouse: 12, touch: 24 }; // pixels within which a photo is meant
const STILL = 5; // pixels that a click may move
const NAMES_SHARE = 0.2; // of the map that names may cover; otherwise the labels are numbers
const NUMBERS_SHARE = 0.3;
const LABEL_PADDING = 8;
const HOME = { x: 0, y: 0, zoom: 1, around: Math.PI / 4, up: 0.4 };
const CUBE = [-1, 1].flatMap((x) => [-1, 1].flatMap((y) => [-1, 1].map((z) => [x, y, z])));
const DEPTH = 0.16; // perspective: how much nearer marks are larger

const ticked = new Set(); // classes; if empty, all are shown
const isShown = (row) => !ticked.size || ticked.has(photos.label[row]);
const maps = [];

/* Coordinates from -1 to 1. */
function normalized(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  const half = (high - low) / 2 || 1;
  return Float64Array.from(values, (value) => (value - low) / half - 1);
}

class PhotoMap {
  constructor(box) {
    this.box = box;
    this.solid = box.dataset.map === "solid";
    const points = data.maps[box.dataset.map];
    if (!points) {
      box.replaceWith(nothing(say("maps.few")));
      return;
    }
    const axes = this.solid ? 3 : 2;
    this.points = Array.from({ length: axes }, (_, at) => normalized(points[at] ?? points[0].map(() => 0)));
    this.rows = points[0].map((_, row) => row);
    this.view = { ...HOME };
    this.mode = null; // null, "move", "lasso" or "box"
    this.current = null; // the photo that n and p have reached
    this.fingers = new Map();
    this.canvas = element("canvas");
    this.pen = this.canvas.getContext("2d");
    this.over = vector("svg", { "aria-hidden": "true" });
    this.labels = vector("g", {});
    this.rings = vector("g", {});
    this.lasso = vector("path", { class: "lasso", d: "" });
    this.over.append(this.rings, this.labels, this.lasso);
    this.draw = element("div", { class: "draw", tabindex: "0", role: "application", "aria-describedby": "keys",
      "aria-label": say("maps.name", { map: box.previousElementSibling.previousElementSibling.textContent, n: this.rows.length }) },
    this.canvas, this.over);
    this.tip = element("div", { class: "tip", "aria-live": "polite", hidden: "" });
    box.before(this.toolbar());
    box.append(this.draw, this.tip);
    this.listen();
    maps.push(this);
    new ResizeObserver(() => this.refresh()).observe(box);
    this.filter();
  }

  toolbar() {
    const mode = (name) => button(say(`maps.${name}`), () => this.setMode(this.mode === name ? null : name), { "aria-pressed": "false", "data-mode": name });
    this.modes = [mode("move"), ...(this.solid ? [] : [mode("lasso"), mode("box")])];
    return element("div", { class: "tools" }, ...this.modes,
      button("+", () => this.zoom(ZOOM), { "aria-label": say("maps.in") }), button("−", () => this.zoom(1 / ZOOM), { "aria-label": say("maps.out") }),
      button(say("maps.reset"), () => this.reset()));
  }

  setMode(mode) {
    this.mode = mode;
    for (const each of this.modes) each.setAttribute("aria-pressed", String(each.dataset.mode === mode));
    this.box.classList.toggle("grabs", mode !== null);
  }

  // Drawing

  /* Draw before the next frame. */
  refresh() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.paint();
    });
  }

  /* Take over which classes are shown. */
  filter() {
    this.shown = this.rows.filter(isShown);
    this.hidden = ticked.size ? this.rows.filter((row) => !isShown(row)) : [];
    if (!this.shown.includes(this.current)) this.hide();
    const members = new Map();
    for (const row of this.shown) {
      const label = photos.label[row];
      if (!members.has(label)) members.set(label, []);
      members.get(label).push(row);
    }
    // Large classes first.
    this.middles = [...members].sort((one, two) => two[1].length - one[1].length || one[0] - two[0])
      .map(([label, rows]) => ({ label, at: this.points.map((axis) => median(rows.map((row) => axis[row]))) }));
    this.box.dataset.shown = this.shown.length;
    this.refresh();
  }

  /* The function from coordinates to pixels and depth, where 1 is near. */
  projection() {
    const { x: left, y: low, zoom, around, up } = this.view;
    const [across, down] = [this.width / 2, this.height / 2];
    if (!this.solid) {
      const [wide, tall] = [across * MARGIN * zoom, down * MARGIN * zoom];
      return ([x, y]) => [across + (x - left) * wide, down - (y - low) * tall, 0];
    }
    const [cos, sin, high, flat] = [Math.cos(around), Math.sin(around), Math.sin(up), Math.cos(up)];
    const scale = Math.min(across, down) * 0.6 * zoom;
    return ([x, y, z]) => {
      const depth = (flat * cos * x + flat * sin * y + high * z) / Math.sqrt(3);
      const nearer = scale / (1 - DEPTH * depth);
      return [across + (cos * y - sin * x) * nearer, down - (flat * z - high * (cos * x + sin * y)) * nearer, depth];
    };
  }

  paint(ratio = devicePixelRatio) {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (!width) return;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.over.setAttribute("viewBox", `0 0 ${width} ${height}`);
    }
    [this.width, this.height] = [width, height];
    const project = this.projection();
    this.places = this.rows.map((row) => project(this.points.map((axis) => axis[row])));
    const { pen } = this;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.globalAlpha = 1;
    pen.fillStyle = colour("ground");
    pen.fillRect(0, 0, width, height);
    if (this.solid) this.cube(project);
    pen.fillStyle = colour("grey");
    for (const row of this.hidden) pen.fillRect(this.places[row][0] - 1, this.places[row][1] - 1, 2.5, 2.5);
    const sprites = this.sprites(ratio);
    const order = this.solid ? [...this.shown].sort((one, two) => this.places[one][2] - this.places[two][2]) : this.shown;
    for (const row of order) {
      const [x, y, depth] = this.places[row];
      const size = sprites.size * (1 + depth * 0.35);
      pen.globalAlpha = selected.size && !selected.has(row) ? 0.2 : 1;
      pen.drawImage(sprites.of(photos.label[row]), x - size / 2, y - size / 2, size, size);
    }
    this.name(project);
    this.mark();
    this.box.dataset.view = JSON.stringify(this.view);
  }

  sprites(ratio) {
    const size = this.rows.length > MANY ? 8 : 11;
    const key = `${size} ${ratio} ${colour("mark-0")}`;
    if (this.spritesKey !== key) [this.spritesKey, this.spriteSet] = [key, new Sprites(size, ratio)];
    return this.spriteSet;
  }

  cube(project) {
    this.pen.strokeStyle = colour("line");
    this.pen.beginPath();
    for (const [at, one] of CUBE.entries()) {
      for (const two of CUBE.slice(at + 1)) {
        if (one.filter((value, axis) => value !== two[axis]).length !== 1) continue;
        this.pen.moveTo(...project(one).slice(0, 2));
        this.pen.lineTo(...project(two).slice(0, 2));
      }
    }
    this.pen.stroke();
  }

  /* Label the classes at their middles: with names where these have room, with numbers otherwise. */
  name(project) {
    const inside = this.middles.map(({ label, at }) => ({ label, place: project(at) }))
      .filter(({ place: [x, y] }) => x > 0 && y > 0 && x < this.width && y < this.height);
    const boxes = (textOf) => inside.map(({ label, place: [x, y] }) =>
      ({ label, x, y, content: textOf(label), wide: textWidth(textOf(label)) + LABEL_PADDING }));
    const share = (of) => of.reduce((sum, each) => sum + each.wide * LABEL_HEIGHT, 0) / (this.width * this.height);
    let labels = boxes(shortName);
    if (share(labels) > NAMES_SHARE) {
      labels = boxes((label) => String(label + 1));
      while (share(labels) > NUMBERS_SHARE) labels.pop();
    }
    this.named = spreadApart(labels, this.width, this.height);
    const [lines, names] = [[], []];
    for (const { label, x, y, left, top, wide, content } of this.named) {
      if (Math.abs(left - x) > wide / 2 || Math.abs(top - y) > 1.5 * LABEL_RISE) lines.push(vector("line", { x1: x, y1: y, x2: left, y2: top }));
      names.push(vector("rect", { x: left - wide / 2, y: top - LABEL_HEIGHT / 2, width: wide, height: LABEL_HEIGHT, rx: 3, style: `stroke:var(--mark-${label % COLOURS})` }),
        vector("text", { x: left, y: top + 4 }, content));
    }
    this.labels.replaceChildren(...lines, ...names);
  }

  /* Ring the pinned photo, its nearest ones, and the photo that n and p have reached. */
  mark() {
    if (!this.places) return;
    const near = data.near?.rows[pinned] ?? [];
    const ring = (row, name, r) => (this.places[row] ? [vector("circle", { class: name, cx: this.places[row][0], cy: this.places[row][1], r })] : []);
    this.rings.replaceChildren(...near.flatMap((row) => ring(row, "near", 7)),
      ...[pinned, this.current].flatMap((row) => ring(row, "ring", 11)));
  }

  // The photo under the pointer

  nearest([x, y], reach) {
    let [best, least] = [null, reach ** 2];
    for (const row of this.shown) {
      const distance = (this.places[row][0] - x) ** 2 + (this.places[row][1] - y) ** 2;
      // In space, the one in front.
      if (distance < least || (this.solid && distance <= 9 && best !== null && this.places[row][2] > this.places[best][2])) {
        [best, least] = [row, Math.min(least, distance)];
      }
    }
    return best;
  }

  labelAt([x, y]) {
    return this.named.find(({ left, top, wide }) => Math.abs(left - x) < wide / 2 && Math.abs(top - y) < LABEL_HEIGHT / 2);
  }

  point(place, reach) {
    const label = this.labelAt(place);
    const row = label ? null : this.nearest(place, reach);
    if (label) this.show([element("b", { text: labelName(label.label) }), say("maps.only")], place);
    else if (row === null) this.hide();
    else this.show([tipOf(row)], place);
    this.draw.style.cursor = label || row !== null ? "pointer" : "";
  }

  show(content, [x, y]) {
    this.tip.replaceChildren(...content);
    this.tip.hidden = false;
    const [wide, tall] = [this.tip.offsetWidth, this.tip.offsetHeight];
    const beside = x + 16 + wide > this.width ? x - 16 - wide : x + 16;
    this.tip.style.left = `${Math.max(4, beside)}px`;
    this.tip.style.top = `${Math.max(4, Math.min(y - tall / 2, this.height - tall - 4))}px`;
  }

  hide() {
    this.current = null;
    this.tip.hidden = true;
    this.mark();
  }

  click(place, reach) {
    const label = this.labelAt(place);
    if (label) return tick([label.label], ticked.size !== 1 || !ticked.has(label.label));
    const row = this.nearest(place, reach);
    if (row === null) unpin();
    else pin(row);
  }

  // Mouse, fingers and keys

  listen() {
    const { draw } = this;
    draw.addEventListener("pointerdown", (event) => this.down(event));
    draw.addEventListener("pointermove", (event) => this.drag(event));
    draw.addEventListener("pointerup", (event) => this.lift(event));
    draw.addEventListener("pointercancel", (event) => this.cancel(event));
    draw.addEventListener("pointerleave", () => { if (this.current === null) this.hide(); });
    draw.addEventListener("wheel", (event) => {
      if (document.activeElement !== draw) return; // the page scrolls
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1 / ZOOM : ZOOM, this.placeOf(event));
    }, { passive: false });
    // One finger scrolls the page; two belong to the map.
    for (const name of ["touchstart", "touchmove"]) {
      draw.addEventListener(name, (event) => { if (event.touches.length > 1) event.preventDefault(); }, { passive: false });
    }
    draw.addEventListener("keydown", (event) => this.key(event));
  }

  placeOf(event) {
    const frame = this.draw.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  down(event) {
    if (event.button) return;
    const place = this.placeOf(event);
    this.draw.focus({ preventScroll: true });
    this.draw.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, place);
    this.start = this.fingers.size === 1 ? place : null; // null once it cannot be a click any more
    this.path = [place];
  }

  drag(event) {
    const place = this.placeOf(event);
    const before = this.fingers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") this.point(place, REACH.mouse);
      return;
    }
    if (this.start && Math.hypot(place[0] - this.start[0], place[1] - this.start[1]) < STILL) return;
    this.start = null;
    this.hide();
    this.fingers.set(event.pointerId, place);
    if (this.fingers.size > 1) return this.pinch(event.pointerId, before, place);
    if (this.mode === "lasso" || this.mode === "box") return this.outline(place);
    if (event.pointerType === "mouse" || this.mode === "move") this.shift(place[0] - before[0], place[1] - before[1]);
  }

  pinch(moved, before, place) {
    const [still] = [...this.fingers].filter(([id]) => id !== moved).map(([, at]) => at);
    const apart = (at) => Math.max(1, Math.hypot(at[0] - still[0], at[1] - still[1]));
    this.shift((place[0] - before[0]) / 2, (place[1] - before[1]) / 2);
    this.zoom(apart(place) / apart(before), [(place[0] + still[0]) / 2, (place[1] + still[1]) / 2]);
  }

  lift(event) {
    if (!this.fingers.has(event.pointerId)) return;
    const reach = REACH[event.pointerType] ?? REACH.mouse;
    if (this.start) this.click(this.placeOf(event), reach);
    else if (this.lasso.getAttribute("d")) select(this.enclosed());
    this.cancel(event);
  }

  cancel(event) {
    this.fingers.delete(event.pointerId);
    this.start = null;
    this.lasso.setAttribute("d", "");
  }

  /* Continue the lasso, or the box, to a place. */
  outline(place) {
    const [[x, y]] = this.path;
    if (this.mode === "box") this.path = [[x, y], [place[0], y], place, [x, place[1]]];
    else this.path.push(place);
    this.lasso.setAttribute("d", `M${this.path.map((each) => each.join(" ")).join("L")}Z`);
  }

  enclosed() {
    const area = new Path2D(this.lasso.getAttribute("d"));
    this.pen.setTransform(1, 0, 0, 1, 0, 0);
    return this.shown.filter((row) => this.pen.isPointInPath(area, this.places[row][0], this.places[row][1], "evenodd"));
  }

  /* Move the marks by pixels; in space, turn them. */
  shift(dx, dy) {
    if (this.solid) return this.turn(-dx * DRAG_TURN, dy * DRAG_TURN);
    this.view.x -= dx / (this.width / 2 * MARGIN * this.view.zoom);
    this.view.y += dy / (this.height / 2 * MARGIN * this.view.zoom);
    this.refresh();
  }

  turn(around, up) {
    this.view.around += around;
    this.view.up = Math.max(-1.5, Math.min(1.5, this.view.up + up));
    this.refresh();
  }

  /* Zoom about a place, which stays where it is; in space, about the middle. */
  zoom(by, place = [this.width / 2, this.height / 2]) {
    const zoom = Math.max(0.5, Math.min(200, this.view.zoom * by));
    const kept = (1 / this.view.zoom - 1 / zoom) / MARGIN;
    if (!this.solid) {
      this.view.x += (place[0] / (this.width / 2) - 1) * kept;
      this.view.y -= (place[1] / (this.height / 2) - 1) * kept;
    }
    this.view.zoom = zoom;
    this.refresh();
  }

  reset() {
    this.view = { ...HOME };
    this.refresh();
  }

  step(by) {
    if (!this.shown.length) return;
    const at = this.shown.indexOf(this.current);
    this.current = this.shown[at < 0 ? (by > 0 ? 0 : this.shown.length - 1) : (at + by + this.shown.length) % this.shown.length];
    this.show([tipOf(this.current)], [0, 0]);
    this.mark();
  }

  move(dx, dy) {
    if (this.solid) this.turn(dx * KEY_TURN, dy * KEY_TURN);
    else this.shift(-dx * KEY_PAN * this.width, dy * KEY_PAN * this.height);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      ArrowLeft: () => this.move(-1, 0), ArrowRight: () => this.move(1, 0),
      ArrowUp: () => this.move(0, 1), ArrowDown: () => this.move(0, -1),
      "+": () => this.zoom(ZOOM), "=": () => this.zoom(ZOOM), "-": () => this.zoom(1 / ZOOM),
      n: () => this.step(1), p: () => this.step(-1), 0: () => this.reset(),
      Enter: () => { if (this.current !== null) pin(this.current, true); },
      Escape: () => { this.hide(); select([]); },
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}

const shortName = (label) => (labelName(label).length > 28 ? `${labelName(label).slice(0, 27)}…` : labelName(label));

function tipOf(row) {
  return element("figure", { class: "photo" }, element("span", { class: "shot" }, picture(row, false)),
    element("figcaption", {}, element("b", { text: labelOf(row) }), element("span", { text: fileName(photos.path[row]) })));
}

// The classes to show

const plain = (content) => content.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
const boxes = []; // the checkbox of each class

/* Show some classes only; without `on`, all. */
function tick(labels, on) {
  ticked.clear();
  for (const label of on ? labels : []) ticked.add(label);
  refilter();
}

function refilter() {
  for (const [label, box] of boxes.entries()) box.checked = ticked.has(label);
  byId("showing").textContent = ticked.size ? say("filter.some", { n: ticked.size, of: classes.length }) : say("filter.all");
  for (const map of maps) map.filter();
}

function legend() {
  const inSample = new Map();
  for (const label of photos.label.slice(0, data.sample.photos)) inSample.set(label, (inSample.get(label) ?? 0) + 1);
  const items = classes.map((_, row) => {
    const box = element("input", { type: "checkbox" });
    boxes.push(box);
    box.addEventListener("change", () => {
      if (box.checked) ticked.add(row); else ticked.delete(row);
      refilter();
    });
    return element("li", {}, element("label", { title: labelName(row) }, box, glyph(row), element("span", { class: "key", text: formatted(row + 1) }),
      element("span", { class: "name", text: labelName(row) }), element("span", { class: "number", text: formatted(inSample.get(row) ?? 0) })));
  });
  byId("legend").append(...items);
  const search = byId("search");
  const matches = () => classes.map((_, row) => row).filter((row) => !items[row].hidden);
  const find = () => {
    const wanted = plain(search.value.trim());
    for (const [row, item] of items.entries()) item.hidden = !plain(labelName(row)).includes(wanted);
    byId("tick-matches").hidden = !wanted || !matches().length;
    byId("tick-matches").textContent = say("filter.tick", { n: matches().length });
    if (wanted && !matches().length) byId("showing").textContent = say("filter.none");
    else refilter();
  };
  search.addEventListener("input", find);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && search.value.trim() && matches().length) tick(matches(), true);
    if (event.key === "Escape") { search.value = ""; find(); }
  });
  byId("tick-matches").addEventListener("click", () => tick(matches(), true));
  byId("all").addEventListener("click", () => {
    search.value = "";
    ticked.clear();
    find();
  });
  refilter();
}

// The photos in the lasso

const selected = new Set();

function select(rows) {
  selected.clear();
  for (const row of rows) selected.add(row);
  const box = byId("selection");
  box.hidden = !rows.length;
  if (rows.length) {
    const counts = new Map();
    for (const row of rows) counts.set(photos.label[row], (counts.get(photos.label[row]) ?? 0) + 1);
    const ranked = [...counts].sort((one, two) => two[1] - one[1]);
    const list = element("div", { class: "strip" });
    box.replaceChildren(element("h3", { text: say("selection.title", { n: rows.length }) }),
      element("p", { class: "acts" },
        decideAll(say("decision.all", { n: rows.length }), classes.map((each) => each.label), (choice) => { for (const row of rows) decide(photos.path[row], choice); }), " ",
        button(say("selection.save"), () => saveCsv("selection.csv", ["path", "label"], rows.map((row) => [photos.path[row], classes[photos.label[row]].label]))), " ",
        button(say("selection.clear"), () => select([]))),
      element("ul", { class: "counts" }, ...ranked.map(([label, n]) => element("li", {}, glyph(label), ` ${labelName(label)} `, element("b", { text: formatted(n) })))),
      list, portions(list, rows, (row) => tile(row, labelOf(row)), 2 * TILES));
  }
  for (const map of maps) map.refresh();
}
