/* A photo as a tile, and the panel of the photo that is pinned. */

function picture(row, lazy = true) {
  const thumbnail = row === null ? "" : photos.thumbnail[row];
  if (!thumbnail) return element("span", { class: "gone", text: say("photo.gone") });
  return element("img", { src: `data:image/jpeg;base64,${thumbnail}`, alt: "", loading: lazy && "lazy" });
}

/* A photo that a click pins. `row` is null for a photo that is not in the page. */
function tile(row, caption = [], path = photos.path[row]) {
  const label = row === null ? "" : `${labelOf(row)}: `;
  const shown = row === null ? element("span", { class: "shot" }, picture(row))
    : element("button", { type: "button", class: "shot", "aria-label": say("photo.pin", { photo: label + fileName(path) }),
      click: (event) => pin(row, event.detail === 0) }, picture(row));
  const figure = element("figure", { class: "photo", title: path }, shown);
  const lines = [].concat(caption).filter(Boolean);
  if (lines.length) figure.append(element("figcaption", {}, ...lines.map((line) => (line instanceof Node ? line : element("span", { text: line })))));
  return figure;
}

/* A list of tiles that takes one stop of the Tab key; arrow keys move within it. */
function strip(tiles) {
  const box = element("div", { class: "strip" }, ...tiles);
  const shots = [...box.querySelectorAll("button.shot")];
  for (const [at, shot] of shots.entries()) shot.tabIndex = at ? -1 : 0;
  box.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const to = shots[shots.indexOf(document.activeElement) + by];
    if (!to) return;
    event.preventDefault();
    for (const shot of shots) shot.tabIndex = shot === to ? 0 : -1;
    to.focus();
  });
  return box;
}

// The pinned photo

let pinned = null;
let opener = null;

function pin(row, fromKeys = false) {
  const panel = byId("pin");
  if (panel.hidden) opener = document.activeElement;
  pinned = row;
  const path = photos.path[row];
  const near = data.near?.rows[row] ?? [];
  const [file, copied] = [element("code", { class: "path", text: path, tabindex: "-1" }), element("span", { role: "status" })];
  const close = button("×", unpin, { class: "close", "aria-label": say("pin.close") });
  const heading = element("h2", { text: labelOf(row), tabindex: "-1" });
  panel.replaceChildren(close, heading, element("div", { class: "large" }, picture(row, false)),
    file, element("p", {}, button(say("pin.copy"), () => copy(file, copied)), " ", copied),
    element("p", {}, element("label", {}, `${say("decision")} `, decisionOf(path, photos.label[row], classes.map((each) => each.label)))),
    element("h3", { text: near.length ? say("pin.near") : say("pin.alone") }),
    strip(near.map((other, at) => tile(other, [labelOf(other), fixed(data.near.distances[row][at], 3)]))));
  panel.hidden = false;
  panel.scrollTop = 0;
  if (fromKeys) heading.focus();
  for (const map of maps) map.mark();
}

function unpin() {
  const panel = byId("pin");
  const inside = panel.contains(document.activeElement);
  panel.hidden = true;
  pinned = null;
  if (inside) opener?.focus({ preventScroll: true });
  for (const map of maps) map.mark();
}

/* Copy a path; where the browser has no clipboard for files, select it and use the old command. */
async function copy(file, status) {
  try {
    await navigator.clipboard.writeText(file.textContent);
  } catch {
    const selection = getSelection();
    selection.selectAllChildren(file);
    if (!document.execCommand("copy")) {
      status.textContent = say("pin.selected");
      return;
    }
    selection.removeAllRanges();
  }
  status.textContent = say("pin.copied");
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !byId("pin").hidden) unpin();
});
