// The rows of pictures. Each keeps its place all the time, but holds pictures only while it is near the window.
const results = document.querySelector(".results");
const headings = document.querySelector(".headings");
const MANY_COLUMNS = 5; // beyond it a row is a strip to scroll, with a caption under each picture
const NEAR = "120% 0px"; // of the window's height: rows so near are filled
const PRINTED = 300; // rows at most, so that printing a long page ends
const FALLBACK_RATIO = 0.66; // height by width of a picture whose size nobody knows

const hiddenColumns = new Set();

function shownColumns() {
  return data.columns.map((column, index) => index).filter((index) => !hiddenColumns.has(index));
}

function ratioOf(row, column) {
  const size = sizeOf(row, column);
  return size ? size[1] / size[0] : FALLBACK_RATIO;
}

function rowShell(row, index) {
  const shell = element("article", "row");
  shell.id = `image-${index + 1}`;
  shell.dataset.row = index;
  const title = element("div", "title", element("h2", "", row.name));
  if (row.excluded) {
    const badge = element("span", "badge", row.excluded);
    badge.title = "Left out of the means";
    title.append(badge);
  }
  shell.append(title, element("div", "columns"));
  return shell;
}

function figureOf(row, column) {
  const described = data.columns[column];
  const figure = element("figure", described.paired ? "" : "unpaired");
  const address = addressOf(row, column);
  if (address === undefined) {
    figure.append(element("div", "missing", "no image"));
  } else {
    const image = element("img");
    image.alt = `${described.heading}: ${row.name}`;
    image.decoding = "async";
    const size = sizeOf(row, column);
    if (size) [image.width, image.height] = size;
    image.addEventListener("error", () => figure.classList.add("broken"));
    image.src = row.thumbnails[described.label] || address;
    const opener = element("button", "picture", image);
    opener.type = "button";
    opener.dataset.column = column;
    figure.append(opener);
  }
  const caption = element("figcaption", "", element("div", "caption", ...headingParts(described)));
  if (row.scores[described.label]) caption.append(scoreList(row, column));
  figure.append(caption);
  return figure;
}

function fill(shell) {
  const place = shell.lastElementChild;
  if (place.childElementCount) return;
  const row = data.rows[Number(shell.dataset.row)];
  place.style.height = "";
  place.append(...shownColumns().map((column) => figureOf(row, column)));
}

// Takes the pictures away, so that the browser can forget them; the row stays as high as it was.
function empty(shell) {
  const place = shell.lastElementChild;
  if (!place.childElementCount || place.contains(document.activeElement)) return;
  place.style.height = `${place.offsetHeight}px`;
  for (const image of place.querySelectorAll("img")) image.removeAttribute("src"); // or its bytes stay
  place.replaceChildren();
}

// The height of a row that has not been filled yet: that of its pictures plus the numbers below them.
function estimate(shell, geometry) {
  const row = data.rows[Number(shell.dataset.row)];
  const ratios = shownColumns().map((column) => ratioOf(row, column));
  const lines = Object.keys(row.scores).length ? geometry.below : 0;
  shell.lastElementChild.style.height = `${Math.round(Math.max(...ratios) * geometry.width + lines)}px`;
}

function estimateAll() {
  const geometry = measureRow();
  for (const shell of shells) if (!shell.lastElementChild.childElementCount) estimate(shell, geometry);
}

// What a filled row measures: the width of a picture and the height of what stands below it.
function measureRow() {
  const sample = shells.find((shell) => shell.lastElementChild.childElementCount && !shell.hidden);
  const figures = sample ? Array.from(sample.querySelectorAll("figure")) : [];
  if (!figures.length) return { width: results.clientWidth / Math.max(shownColumns().length, 1), below: 60 };
  const below = Math.max(...figures.map((figure) => figure.lastElementChild.offsetHeight));
  return { width: figures[0].clientWidth, below };
}

function layOut() {
  const shown = shownColumns();
  document.body.style.setProperty("--columns", Math.max(shown.length, 1));
  document.body.classList.toggle("strip", shown.length > MANY_COLUMNS);
  headings.replaceChildren(...shown.map((column) => element("div", "", ...headingParts(data.columns[column]))));
  for (const shell of shells) {
    if (!shell.lastElementChild.childElementCount) continue;
    shell.lastElementChild.replaceChildren();
    fill(shell);
  }
  estimateAll();
}

const shells = data.rows.map(rowShell);
const watcher = new IntersectionObserver(
  function (entries) {
    for (const entry of entries) (entry.isIntersecting ? fill : empty)(entry.target);
  },
  { rootMargin: NEAR }
);
results.append(...shells);
if (shells.length) fill(shells[0]);
layOut();
for (const shell of shells) watcher.observe(shell);
window.addEventListener("resize", estimateAll);
window.addEventListener("beforeprint", () => shells.filter((shell) => !shell.hidden).slice(0, PRINTED).forEach(fill));
