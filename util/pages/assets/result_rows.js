// The rows of pictures. Each keeps its place all the time, but holds pictures only while it is near the window.
const results = document.querySelector(".results");
const headings = document.querySelector(".headings");
const MANY_COLUMNS = 5; // beyond it a row is a strip to scroll, with a caption under each picture
const NEAR = "100% 0px"; // of the window's height: rows so near are filled
const REST = 100; // milliseconds: rows that fly past faster stay empty
const PRINTED = 300; // rows at most, so that printing a long page ends
const FALLBACK_RATIO = 0.66; // height by width of a picture whose size nobody knows

const columnCount = Math.max(data.columns.length, 1);
let printing = false;

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

// Printers wait for images, not for what is drawn.
function imageOf(address, size) {
  const image = element("img");
  if (size) [image.width, image.height] = size;
  image.src = address;
  return image;
}

function figureOf(row, column) {
  const described = data.columns[column];
  const figure = element("figure", described.paired ? "" : "unpaired");
  if (addressOf(row, column) === undefined) {
    figure.append(element("div", "missing", "no image"));
  } else {
    const address = row.thumbnails[described.label] || addressOf(row, column);
    const size = sizeOf(row, column);
    const picture = printing ? imageOf(address, size) : canvasOf(address, size);
    const words = `${described.heading}: ${row.name}`;
    picture.setAttribute(printing ? "alt" : "aria-label", words);
    const opener = element("button", "picture", picture);
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
  place.append(...data.columns.map((column, index) => figureOf(row, index)));
}

// Takes the pictures away, so that the browser can forget them; the row stays as high as it was.
function empty(shell) {
  const place = shell.lastElementChild;
  if (!place.childElementCount || place.contains(document.activeElement)) return;
  place.style.height = `${place.offsetHeight}px`;
  place.querySelectorAll("canvas").forEach(giveBack);
  place.replaceChildren();
}

// The height of a row that has not been filled yet: that of its pictures plus the numbers below them.
function estimate(shell, geometry) {
  const row = data.rows[Number(shell.dataset.row)];
  const ratios = data.columns.map((column, index) => ratioOf(row, index));
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
  if (!figures.length) return { width: results.clientWidth / columnCount, below: 60 };
  const below = Math.max(...figures.map((figure) => figure.lastElementChild.offsetHeight));
  return { width: figures[0].clientWidth, below };
}

const shells = data.rows.map(rowShell);
const arriving = new Map(); // shell -> timer
const watcher = new IntersectionObserver(
  function (entries) {
    for (const { target, isIntersecting } of entries) {
      window.clearTimeout(arriving.get(target));
      if (isIntersecting) arriving.set(target, window.setTimeout(fill, REST, target));
      else empty(target);
    }
  },
  { rootMargin: NEAR }
);

function beforePrint() {
  printing = true;
  for (const shell of shells.filter((each) => !each.hidden).slice(0, PRINTED)) {
    shell.lastElementChild.replaceChildren();
    fill(shell);
  }
}

function afterPrint() {
  printing = false;
  for (const shell of shells) {
    empty(shell);
    watcher.unobserve(shell);
    watcher.observe(shell); // fills it if it is near
  }
}

document.body.style.setProperty("--columns", columnCount);
document.body.classList.toggle("strip", columnCount > MANY_COLUMNS);
headings.append(...data.columns.map((column) => element("div", "", ...headingParts(column))));
results.append(...shells);
if (shells.length) fill(shells[0]);
estimateAll();
for (const shell of shells) watcher.observe(shell);
window.addEventListener("resize", estimateAll);
window.addEventListener("resize", redrawEnlarged);
window.addEventListener("beforeprint", beforePrint);
window.addEventListener("afterprint", afterPrint);
