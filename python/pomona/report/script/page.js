/* Fill the page. */

headline();
findings();
against();
balance();
sheets();
byId("sampled").textContent = data.sample.photos < data.sample.of
  ? say("maps.sample", { n: data.sample.photos, of: data.sample.of }) : say("maps.every", { n: data.sample.photos });
for (const box of document.querySelectorAll(".map")) new PhotoMap(box);
legend();
curve();
classifiers();
about();

if (matchMedia("(max-width: 52rem)").matches) byId("legend-box").open = false;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const map of maps) map.refresh();
});

// On paper, the colours are the light ones, and the maps are as fine as a printer needs.
const PRINT_RATIO = 3;
const repaint = (onPaper) => {
  document.documentElement.classList.toggle("paper", onPaper);
  for (const map of maps) map.paint(onPaper ? PRINT_RATIO : devicePixelRatio);
};
addEventListener("beforeprint", () => repaint(true));
addEventListener("afterprint", () => repaint(false));

// A link to a finding opens it.
const openTarget = () => {
  const target = location.hash.startsWith("#finding-") && byId(location.hash.slice(1));
  if (target) target.open = true;
};
addEventListener("hashchange", openTarget);
openTarget();

document.documentElement.dataset.ready = "yes";
