/* The data of the page, its language, and helpers to build elements.
 *
 * The JSON in #data comes from pomona/report/content.py. A photo is a row of `photos`; a class is an
 * index of `classes`.
 *
 * language, text{key: sentence}
 * summary, curve[share], classes[{label, photos, errors}], sample{photos, of, seed}
 * photos{path[], label[class], thumbnail[base64 JPEG or ""]}: first those of the sample, then others
 *   that only findings or mistakes show
 * missing: null or {n, of, example, reason or null}: photos of the sample without a thumbnail
 * maps{pca, flat, solid}: null or one list of coordinates per axis, of the sample
 * near{rows[[photo]], distances[[number]]}: the nearest photos of each photo of the sample
 * sheets[[photo]]
 * findings{scope{photos, of}, kinds[{kind, total, listed[…]}], thresholds}
 * decisions[[path, decision]]: those of the findings.csv that was there before
 * classifiers[…] as in metrics.json, against: null or the comparison with an earlier set
 *
 * Names and paths are untrusted, so they reach the page only as text (textContent).
 */
const data = JSON.parse(document.getElementById("data").textContent);
const { photos, classes, summary, language, text } = data;

const plural = new Intl.PluralRules(language);
const formatted = (value, options) => value.toLocaleString(language, options);
const fixed = (value, digits) => formatted(value, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const percent = (share, digits = 1) => formatted(share, { style: "percent", maximumFractionDigits: digits, minimumFractionDigits: digits });

/* The sentence of a key with its values; the number `n` chooses between singular and plural. */
function say(key, values = {}) {
  const entry = text[key];
  const sentence = typeof entry === "string" ? entry : entry[plural.select(values.n)] ?? entry.other;
  return sentence.replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? formatted(values[name]) : values[name]);
}

const byId = (id) => document.getElementById(id);
const nameOf = (label) => label || say("no-label");
const labelName = (row) => nameOf(classes[row].label);
const labelOf = (photo) => labelName(photos.label[photo]);
const fileName = (path) => path.split("/").pop();
const rowOfPath = new Map(photos.path.map((path, row) => [path, row]));

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (name === "click") made.addEventListener("click", value);
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const button = (label, click, attributes = {}) => element("button", { type: "button", text: label, click, ...attributes });
const nothing = (sentence) => element("p", { class: "empty", text: sentence });
const foreign = language === "en" ? {} : { lang: "en" }; // for sentences that come from metrics.json

function table(head, rows) {
  const isNumber = (at) => rows.length > 0 && typeof rows[0][at] === "number";
  const cell = (value) => (value instanceof Node ? element("td", {}, value)
    : element("td", { class: typeof value === "number" && "n", text: typeof value === "number" ? formatted(value) : value }));
  return element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((name, at) => element("th", { scope: "col", class: isNumber(at) && "n", text: name })))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))));
}

/* Append the items that `make` builds to a list in portions, with a button for the next portion. */
function portions(list, items, make, size) {
  const more = button("", () => add(), { class: "more" });
  let shown = 0;
  const add = () => {
    const before = list.childElementCount;
    list.append(...items.slice(shown, shown + size).map(make));
    shown = Math.min(items.length, shown + size);
    more.textContent = say("more", { n: items.length - shown });
    more.hidden = shown === items.length;
    // The button may have vanished under the keyboard's focus.
    if (before && more.hidden) list.children[before].querySelector("button")?.focus({ preventScroll: true });
  };
  add();
  return more;
}

/* Save a table as a CSV file that Excel, which needs the byte order mark, pandas and `pomona run` read. */
function saveCsv(name, head, rows) {
  // An apostrophe keeps a spreadsheet from evaluating a cell: neutralised() in pomona/decisions.py.
  const cell = (value) => {
    const content = String(value ?? "").replace(/^[=+\-@\t\r']/, "'$&");
    return /[",\n\r]/.test(content) ? `"${content.replace(/"/g, '""')}"` : content;
  };
  const lines = [head, ...rows].map((row) => row.map(cell).join(","));
  const url = URL.createObjectURL(new Blob([`\ufeff${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

const STYLE = getComputedStyle(document.documentElement);
const colour = (name) => STYLE.getPropertyValue(`--${name}`).trim();
