/* The marks of the classes and their labels, as plots/maps.py draws them. */

// With 6 colours and 7 shapes, neighbours in the legend differ in both.
const SHAPES = ["circle", "square", "diamond", "cross", "circle-open", "square-open", "diamond-open"];
const OUTLINES = {
  circle: "M7 2a5 5 0 1 0 .01 0z", square: "M2.5 2.5h9v9h-9z", diamond: "M7 1l6 6-6 6-6-6z",
  cross: "M5 1h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
};
const OUTLINE_SIDE = 14; // units of the outlines
const COLOURS = 6;
const shapeOf = (row) => SHAPES[row % SHAPES.length].split("-");
const colourOf = (row) => colour(`mark-${row % COLOURS}`);

const SVG = "http://www.w3.org/2000/svg";

function vector(tag, attributes, content) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (content !== undefined) made.textContent = content;
  return made;
}

function glyph(row) {
  const [shape, open] = shapeOf(row);
  const svg = vector("svg", { width: 14, height: 14, viewBox: `0 0 ${OUTLINE_SIDE} ${OUTLINE_SIDE}`, "aria-hidden": "true" });
  const hue = `var(--mark-${row % COLOURS})`;
  svg.append(vector("path", { d: OUTLINES[shape], style: open ? `fill:none;stroke:${hue};stroke-width:2` : `fill:${hue}` }));
  return svg;
}

/* The marks as small pictures, which a canvas copies faster than it draws paths. */
class Sprites {
  constructor(size, ratio) {
    this.side = Math.ceil(size * ratio) + 2;
    this.size = this.side / ratio;
    this.pictures = Array.from({ length: COLOURS * SHAPES.length }, (_, row) => this.draw(row, size * ratio));
  }

  draw(row, pixels) {
    const canvas = element("canvas", { width: this.side, height: this.side });
    const pen = canvas.getContext("2d");
    const [shape, open] = shapeOf(row);
    pen.translate(1, 1);
    pen.scale(pixels / OUTLINE_SIDE, pixels / OUTLINE_SIDE);
    const path = new Path2D(OUTLINES[shape]);
    pen.fillStyle = pen.strokeStyle = colourOf(row);
    pen.lineWidth = 3;
    if (open) pen.stroke(path);
    else pen.fill(path);
    return canvas;
  }

  of(row) {
    return this.pictures[row % this.pictures.length];
  }
}

const LABEL_HEIGHT = 16;
const LABEL_RISE = 17; // from the middle of a class to that of its label, so that small groups of marks stay visible
const SPREAD_STEPS = 150;
const GOLDEN_ANGLE = Math.PI * (3 - Math.sqrt(5));
const ruler = document.createElement("canvas").getContext("2d");

function textWidth(content) {
  ruler.font = '600 12px system-ui, "DejaVu Sans", sans-serif';
  return ruler.measureText(content).width;
}

/* Place boxes {x, y, wide} above their anchors, within a frame, and move them apart where they overlap. */
function spreadApart(boxes, width, height) {
  for (const [at, box] of boxes.entries()) {
    // Boxes in one place need different directions to move in.
    box.left = box.x + 0.5 * Math.cos(at * GOLDEN_ANGLE);
    box.top = box.y - LABEL_RISE + 0.5 * Math.sin(at * GOLDEN_ANGLE);
  }
  const within = (value, half, end) => Math.max(half, Math.min(end - half, value));
  for (let step = 0, touching = true; touching && step < SPREAD_STEPS; step++) {
    touching = false;
    for (const box of boxes) box.dx = box.dy = 0;
    for (let one = 0; one < boxes.length; one++) {
      for (let two = one + 1; two < boxes.length; two++) {
        const [a, b] = [boxes[one], boxes[two]];
        const [dx, dy] = [a.left - b.left, a.top - b.top];
        const [over, under] = [(a.wide + b.wide) / 2 + 2 - Math.abs(dx), LABEL_HEIGHT + 2 - Math.abs(dy)];
        if (over <= 0 || under <= 0) continue;
        touching = true;
        // Both move by half of the overlap, along the axis on which it is smaller.
        const along = over < under ? "dx" : "dy";
        const push = (over < under ? Math.sign(dx) * over : Math.sign(dy) * under) / 2;
        a[along] += push;
        b[along] -= push;
      }
    }
    for (const box of boxes) {
      box.left = within(box.left + box.dx, box.wide / 2, width);
      box.top = within(box.top + box.dy, LABEL_HEIGHT / 2, height);
    }
  }
  // Where there is too little room for all, the first ones stay.
  const kept = [];
  for (const box of boxes) {
    const free = kept.every((other) => Math.abs(other.left - box.left) >= (other.wide + box.wide) / 2
      || Math.abs(other.top - box.top) >= LABEL_HEIGHT);
    if (free) kept.push(box);
  }
  return kept;
}

function median(values) {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.floor(sorted.length / 2)];
}
