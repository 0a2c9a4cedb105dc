// The embedded manifest, how numbers are taken from it and written, and a helper to make elements.
const data = JSON.parse(document.getElementById("page-data").textContent);
const columnOf = new Map(data.columns.map((column, index) => [column.label, index]));
const BEFORE = columnOf.get(data.before);
const AFTER = columnOf.get(data.after);
const TARGET = columnOf.get(data.target);

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function button(className, text, title, action) {
  const made = element("button", className, text);
  made.type = "button";
  if (title) {
    made.title = title;
    made.setAttribute("aria-label", title);
  }
  made.addEventListener("click", action);
  return made;
}

// A number of the manifest, where infinity is a word; undefined if there is none.
function number(value) {
  if (typeof value !== "string") return value;
  return { inf: Infinity, "-inf": -Infinity }[value];
}

function scoreOf(row, column, metric) {
  const scores = row.scores[data.columns[column].label];
  return scores === undefined ? undefined : number(scores[data.metrics[metric].key]);
}

// A score minus that of the input; undefined if one is missing or both are infinite.
function changeOf(row, column, metric) {
  if (BEFORE === undefined || column === BEFORE) return undefined;
  const [before, after] = [scoreOf(row, BEFORE, metric), scoreOf(row, column, metric)];
  if (before === undefined || after === undefined || before === after) return before === after && before !== undefined ? 0 : undefined;
  return after - before;
}

function outputsOf(row) {
  return data.columns.flatMap((column, index) => (index !== BEFORE && row.scores[column.label] ? [index] : []));
}

// How far apart the outputs of several runs are.
function rangeOf(row, metric) {
  const values = outputsOf(row).map((column) => scoreOf(row, column, metric));
  if (values.length < 2 || values.includes(undefined)) return undefined;
  const range = Math.max(...values) - Math.min(...values);
  return Number.isNaN(range) ? 0 : range;
}

// What is named by a choice such as "value:1:0": kind, column, metric.
function measure(row, choice) {
  const [kind, column, metric] = choice.split(":");
  if (kind === "change") return changeOf(row, Number(column), Number(metric));
  if (kind === "range") return rangeOf(row, Number(metric));
  return scoreOf(row, Number(column), Number(metric));
}

function written(value, digits, signed) {
  const text = Math.abs(value) === Infinity ? "∞" : Math.abs(value).toFixed(digits);
  const zero = /^0(\.0*)?$/.test(text);
  return (value < 0 && !zero ? "−" : signed ? "+" : "") + text;
}

function chip(metric, change) {
  const text = written(change, metric.digits, true);
  const same = /^\+0(\.0*)?$/.test(text);
  const verdict = same ? "same" : change > 0 === metric.higher_is_better ? "better" : "worse";
  const made = element("span", `change ${verdict}`, text);
  made.title = same ? "unchanged" : `${verdict} than the ${data.columns[BEFORE].heading}`;
  return made;
}

// The numbers of one picture: name, value and change of each metric.
function scoreList(row, column) {
  const list = element("dl", "scores");
  const outputs = outputsOf(row);
  data.metrics.forEach(function (metric, index) {
    const value = scoreOf(row, column, index);
    if (value === undefined) return;
    const name = element("dt", "", metric.heading);
    name.title = metric.protocol;
    const unit = metric.unit ? [element("span", "unit", ` ${metric.unit}`)] : [];
    const shown = element("dd", "", element("span", "value", written(value, metric.digits)), ...unit);
    const rivals = outputs.map((other) => scoreOf(row, other, index)).filter((other) => other !== undefined);
    const best = metric.higher_is_better ? Math.max(...rivals) : Math.min(...rivals);
    if (rivals.length > 1 && column !== BEFORE && value === best) shown.firstChild.classList.add("best");
    const change = changeOf(row, column, index);
    if (change !== undefined) shown.append(" ", chip(metric, change));
    list.append(element("div", "", name, shown));
  });
  return list;
}

function headingParts(column) {
  const parts = [element("span", "words", column.heading), " ", element("code", "", column.label)];
  if (!column.paired) {
    const badge = element("span", "badge", "unpaired");
    badge.title = "Another scene than the input: not comparable pixel by pixel";
    parts.push(" ", badge);
  }
  return parts;
}

function addressOf(row, column) {
  return row.images[data.columns[column].label];
}

function sizeOf(row, column) {
  return row.sizes[data.columns[column].label];
}

// Draws the rows' pictures into canvases. What a browser decodes for an <img> it keeps for later, which after a few
// hundred rows are hundreds of megabytes; a canvas holds the pixels it shows and gives them back at once.
const LOADERS = 2; // pictures that are read at the same time
const loaders = Array.from({ length: LOADERS }, () => element("img")); // those that have nothing to do
const waiting = new Map(); // canvas -> address of what it shall show

function canvasOf(address, size) {
  const canvas = element("canvas");
  canvas.setAttribute("role", "img");
  if (size) {
    [canvas.width, canvas.height] = size;
    canvas.style.aspectRatio = `${size[0]} / ${size[1]}`;
  }
  canvas.dataset.address = address;
  requestDrawing(canvas);
  return canvas;
}

function requestDrawing(canvas) {
  waiting.set(canvas, canvas.dataset.address);
  const loader = loaders.pop();
  if (loader) drawAllWaiting(loader);
}

// Gives back the pixels of a canvas that is not shown any more.
function giveBack(canvas) {
  waiting.delete(canvas);
  canvas.width = canvas.height = 0;
}

// After the window has changed: pictures drawn for fewer pixels than they now cover.
function redrawEnlarged() {
  for (const canvas of results.querySelectorAll("canvas[data-drawn]")) {
    if (canvas.width < Math.min(pixelsAcross(canvas), Number(canvas.dataset.drawn))) requestDrawing(canvas);
  }
}

async function drawAllWaiting(loader) {
  await null; // first the canvases get their places in the page
  while (waiting.size) {
    const canvas = nearestToMiddle();
    const address = waiting.get(canvas);
    waiting.delete(canvas);
    if (!canvas.isConnected) continue;
    await draw(canvas, address, loader);
    await new Promise(window.requestAnimationFrame); // decoding takes its time, scrolling goes first
  }
  loader.removeAttribute("src");
  loaders.push(loader);
}

function nearestToMiddle() {
  const distance = (canvas) => Math.abs(canvas.getBoundingClientRect().top - window.innerHeight / 2);
  return Array.from(waiting.keys()).reduce((one, other) => (distance(other) < distance(one) ? other : one));
}

async function draw(canvas, address, loader) {
  try {
    await load(loader, address);
    const width = pixelsAcross(canvas);
    const smaller = width && width < loader.naturalWidth ? { resizeWidth: width, resizeQuality: "medium" } : {};
    const bitmap = await createImageBitmap(loader, smaller);
    if (!canvas.isConnected) return bitmap.close();
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
    canvas.dataset.drawn = loader.naturalWidth;
  } catch (error) {
    canvas.closest("figure")?.classList.add("broken");
  }
}

// Not by loader.decode(): that would fill the cache which is to be avoided.
function load(loader, address) {
  return new Promise(function (resolve, reject) {
    loader.onload = resolve;
    loader.onerror = reject;
    loader.src = address;
  });
}

function pixelsAcross(canvas) {
  return Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
}

// The rows of pictures. Each keeps its place all the time, but holds pictures only while it is near the window.
const results = document.querySelector(".results");
const headings = document.querySelector(".headings");
const MANY_COLUMNS = 5; // beyond it a row is a strip to scroll, with a caption under each picture
const NEAR = "100% 0px"; // of the window's height: rows so near are filled
const REST = 100; // milliseconds: rows that fly past faster stay empty
const PRINTED = 300; // rows at most, so that printing a long page ends
const FALLBACK_RATIO = 0.66; // height by width of a picture of unknown size

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

// Sorting, filtering and counting rows.
const filter = document.getElementById("filter");
const order = document.getElementById("order");
const first = document.getElementById("first");
const last = document.getElementById("last");
const threshold = document.getElementById("measure"); // null on a page without numbers
const relation = document.getElementById("relation");
const bound = document.getElementById("bound");
const limits = document.getElementById("limits");
const count = document.getElementById("count");
const nothing = document.querySelector(".nothing");
const byName = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
let turned = false; // whether the second of the two orders is chosen

function rowOf(shell) {
  return data.rows[Number(shell.dataset.row)];
}

// Whether small values come first in the first order: A to Z, the worst first.
function risesAtFirst() {
  if (order.value === "name") return true;
  const [kind, , metric] = order.value.split(":");
  return kind !== "range" && data.metrics[Number(metric)].higher_is_better;
}

function comparison() {
  const rises = risesAtFirst() !== turned ? 1 : -1;
  return function (one, other) {
    const [a, b] = [rowOf(one), rowOf(other)];
    const names = byName.compare(a.name, b.name);
    if (order.value === "name") return rises * names;
    const [x, y] = [measure(a, order.value), measure(b, order.value)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined) || names;
    return x === y ? names : rises * (x < y ? -1 : 1);
  };
}

function sortRows() {
  shells.sort(comparison());
  results.append(...shells);
  const kind = order.value.split(":")[0];
  const words = { name: ["A → Z", "Z → A"], range: ["Largest first", "Smallest first"] };
  [first.textContent, last.textContent] = words[kind] || ["Worst first", "Best first"];
  first.setAttribute("aria-pressed", String(!turned));
  last.setAttribute("aria-pressed", String(turned));
}

function withinBound(row) {
  if (!threshold || threshold.value === "" || bound.value === "") return true;
  const value = measure(row, threshold.value);
  if (value === undefined) return false;
  return relation.value === "most" ? value <= Number(bound.value) : value >= Number(bound.value);
}

function filterRows() {
  const wanted = filter.value.trim().toLowerCase();
  let shown = 0;
  for (const shell of shells) {
    const row = rowOf(shell);
    shell.hidden = !(row.name.toLowerCase().includes(wanted) && withinBound(row));
    shown += shell.hidden ? 0 : 1;
  }
  const all = shells.length === 1 ? "1 image" : `${shells.length} images`;
  count.textContent = shown === shells.length ? all : `${shown} of ${all}`;
  nothing.hidden = shown > 0 || shells.length === 0;
  if (limits) limits.hidden = threshold.value === "";
}

function turn(to) {
  turned = to;
  sortRows();
}

function visibleShells() {
  return shells.filter((shell) => !shell.hidden);
}

filter.addEventListener("input", filterRows);
order.addEventListener("change", () => turn(false));
first.addEventListener("click", () => turn(false));
last.addEventListener("click", () => turn(true));
if (threshold) {
  for (const control of [threshold, relation, bound]) control.addEventListener("input", filterRows);
}
sortRows();
filterRows();
