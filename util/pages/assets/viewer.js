// Which part of the pictures is seen. One view is shared by all panes, so they zoom and move together.
// zoom: times the size that fits the pane; x, y: the point of the picture (0 to 1) in the middle of the pane.
const view = { zoom: 1, x: 0.5, y: 0.5 };
const LARGEST_PIXEL = 32; // a picture's pixel covers at most so many of the screen's
const PIXELATED_FROM = 2; // from this size on, a picture's pixels are drawn as squares
const FITS = 1.001;

function screenPixels() {
  return window.devicePixelRatio || 1;
}

function fitOf(pane, size) {
  return Math.min(pane.width / size[0], pane.height / size[1]);
}

function largestZoom(pane) {
  return Math.max(1, LARGEST_PIXEL / screenPixels() / fitOf(pane, pane.size));
}

// The middle may go no farther than to where the picture's edge meets the pane's.
function clampMiddle(middle, extent, room) {
  if (extent <= room) return 0.5;
  const half = room / extent / 2;
  return Math.min(1 - half, Math.max(half, middle));
}

function place(pane, layer) {
  const size = layer.size;
  const scale = fitOf(pane, size) * view.zoom;
  const [width, height] = [size[0] * scale, size[1] * scale];
  const snap = (value) => Math.round(value * screenPixels()) / screenPixels();
  const left = snap(pane.width / 2 - clampMiddle(view.x, width, pane.width) * width);
  const top = snap(pane.height / 2 - clampMiddle(view.y, height, pane.height) * height);
  const style = layer.image.style;
  style.width = `${width}px`;
  style.height = `${height}px`;
  style.transform = `translate(${left}px, ${top}px)`;
  style.imageRendering = scale * screenPixels() >= PIXELATED_FROM ? "pixelated" : "auto";
}

function paintView() {
  if (!panes.length) return;
  const pane = panes[0];
  view.zoom = Math.min(largestZoom(pane), Math.max(1, view.zoom));
  const scale = fitOf(pane, pane.size) * view.zoom;
  view.x = clampMiddle(view.x, pane.size[0] * scale, pane.width);
  view.y = clampMiddle(view.y, pane.size[1] * scale, pane.height);
  for (const each of panes) for (const layer of each.layers) place(each, layer);
  stage.classList.toggle("zoomed", view.zoom > FITS);
  showZoom(scale * screenPixels());
}

// Zooms so that the point of the picture under (x, y), counted from the pane's middle, stays where it is.
function zoomBy(factor, pane, x, y) {
  const before = fitOf(pane, pane.size) * view.zoom;
  view.zoom = Math.min(largestZoom(pane), Math.max(1, view.zoom * factor));
  const after = fitOf(pane, pane.size) * view.zoom;
  view.x += (x / before - x / after) / pane.size[0];
  view.y += (y / before - y / after) / pane.size[1];
  paintView();
}

function zoomInMiddle(factor) {
  if (panes.length) zoomBy(factor, panes[0], 0, 0);
}

// One pixel of the picture on one of the screen.
function pixelZoom(pane) {
  return 1 / screenPixels() / fitOf(pane, pane.size);
}

function fitView() {
  Object.assign(view, { zoom: 1, x: 0.5, y: 0.5 });
  paintView();
}

// Moves the pictures by so many pixels of the page.
function panBy(x, y, pane) {
  const scale = fitOf(pane, pane.size) * view.zoom;
  view.x -= x / scale / pane.size[0];
  view.y -= y / scale / pane.size[1];
  paintView();
}

// Wheel, mouse and fingers in the panes: zoom, move, pull the slider, swipe to the next picture.
const WHEEL_RATE = 0.0016;
const PINCH_WHEEL_RATE = 0.012; // two fingers on a touchpad arrive as a wheel with the control key
const WHEEL_LINE = 16; // pixels, for wheels that count lines
const CLOSER = 3; // by a double click on a picture whose pixels are already large
const SWIPE = 60; // pixels

const fingers = new Map(); // pointer id -> its last place
let grip = null; // what one finger is doing: "slide", "pan" or null
let swipeFrom = null;

function paneAt(target) {
  const holder = target.closest ? target.closest(".pane") : null;
  return panes.find((pane) => pane.element === holder);
}

function fromMiddle(pane, event) {
  const place = pane.box.getBoundingClientRect();
  return [event.clientX - place.left - place.width / 2, event.clientY - place.top - place.height / 2];
}

function slideTo(pane, event) {
  const place = pane.box.getBoundingClientRect();
  setSplit((100 * (event.clientX - place.left)) / place.width);
}

function spread() {
  const [one, other] = Array.from(fingers.values());
  const distance = Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
  return { distance, clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2 };
}

function onDown(event) {
  const pane = paneAt(event.target);
  if (!pane || event.button > 0 || !event.target.closest(".box")) return;
  fingers.set(event.pointerId, event);
  pane.box.setPointerCapture(event.pointerId);
  const onHandle = event.target.closest(".handle") !== null;
  grip = onHandle || (state.mode === "slider" && view.zoom <= FITS) ? "slide" : "pan";
  if (grip === "slide" && !onHandle) slideTo(pane, event);
  const swipes = event.pointerType === "touch" && grip === "pan" && view.zoom <= FITS;
  swipeFrom = swipes && fingers.size === 1 ? event : null;
}

function onMove(event) {
  const old = fingers.get(event.pointerId);
  const pane = paneAt(event.target);
  if (!old || !pane) return;
  if (fingers.size === 2) {
    const before = spread();
    fingers.set(event.pointerId, event);
    const after = spread();
    panBy(after.clientX - before.clientX, after.clientY - before.clientY, pane);
    zoomBy(after.distance / Math.max(before.distance, 1), pane, ...fromMiddle(pane, after));
    swipeFrom = null;
    return;
  }
  fingers.set(event.pointerId, event);
  if (grip === "slide") slideTo(pane, event);
  else panBy(event.clientX - old.clientX, event.clientY - old.clientY, pane);
}

function onUp(event) {
  if (!fingers.delete(event.pointerId)) return;
  if (swipeFrom && event.type === "pointerup") {
    const [x, y] = [event.clientX - swipeFrom.clientX, event.clientY - swipeFrom.clientY];
    if (Math.abs(x) > SWIPE && Math.abs(x) > 2 * Math.abs(y)) step(x < 0 ? 1 : -1);
  }
  swipeFrom = null;
  grip = fingers.size ? "pan" : null;
}

function onWheel(event) {
  const pane = paneAt(event.target);
  if (!pane) return;
  event.preventDefault();
  const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? WHEEL_LINE : 1);
  zoomBy(Math.exp(-pixels * (event.ctrlKey ? PINCH_WHEEL_RATE : WHEEL_RATE)), pane, ...fromMiddle(pane, event));
}

function onDoubleClick(event) {
  const pane = paneAt(event.target);
  if (!pane || event.target.closest(".handle")) return;
  if (view.zoom > FITS) fitView();
  else zoomBy(Math.max(pixelZoom(pane), CLOSER), pane, ...fromMiddle(pane, event));
}

function listenForGestures(target) {
  target.addEventListener("pointerdown", onDown);
  target.addEventListener("pointermove", onMove);
  target.addEventListener("pointerup", onUp);
  target.addEventListener("pointercancel", onUp);
  target.addEventListener("wheel", onWheel, { passive: false });
  target.addEventListener("dblclick", onDoubleClick);
}

// What stands in the viewer: panes with pictures in layers. A pane is
//   { element, box, layers: [{ image, column, size, holder }], size, width, height }.
const UNKNOWN_SIZE = [3, 2]; // until the picture has been loaded
const PANE_GAP = 8;
const SPLIT_STEP = 5; // percent

let panes = [];

function available(row) {
  return data.columns.map((column, index) => index).filter((index) => addressOf(row, index) !== undefined);
}

function comparable(row) {
  return available(row).filter((column) => data.columns[column].paired);
}

function layerOf(row, column, className) {
  const image = element("img");
  image.alt = `${data.columns[column].heading}: ${row.name}`;
  image.decoding = "sync"; // flipping between pictures shows no gap
  image.draggable = false;
  const layer = { image, column, size: sizeOf(row, column) || UNKNOWN_SIZE, holder: element("div", className, image) };
  image.addEventListener("load", function () {
    layer.size = [image.naturalWidth, image.naturalHeight];
    fitStage();
  });
  image.addEventListener("error", () => layer.holder.classList.add("broken"));
  image.src = addressOf(row, column);
  return layer;
}

function paneOf(layers, ...caption) {
  const box = element("div", "box", ...layers.map((layer) => layer.holder));
  const pane = { element: element("div", "pane", box, element("div", "caption", ...caption)), box, layers };
  return pane;
}

function captionOf(row, column) {
  const described = data.columns[column];
  const parts = [element("div", "", ...headingParts(described))];
  if (row.scores[described.label]) parts.push(scoreList(row, column));
  return element("div", "side", ...parts);
}

// Every picture in a pane of its own.
function sidePanes(row) {
  return available(row).map((column) => paneOf([layerOf(row, column, "layer")], captionOf(row, column)));
}

// All pictures over each other in one pane, of which one or, with a slider between them, two are seen.
function stackPanes(row) {
  const layers = available(row).map((column) => layerOf(row, column, "layer"));
  return layers.length ? [paneOf(layers)] : [];
}

// The absolute difference of every comparable picture to one of them.
function differencePanes(row) {
  const against = state.against;
  const others = comparable(row).filter((column) => column !== against);
  return others.map(function (column) {
    const layers = [layerOf(row, against, "layer"), layerOf(row, column, "layer")];
    const [one, other] = [data.columns[column].heading, data.columns[against].heading];
    const words = element("span", "words", `| ${one} − ${other} |`);
    const caption = element("div", "side", element("div", "", words));
    if (row.scores[data.columns[column].label] && against === TARGET) caption.append(scoreList(row, column));
    return paneOf(layers, caption);
  });
}

function makeSlider() {
  const handle = element("div", "handle", element("span", "grip", "◂ ▸"));
  handle.tabIndex = 0;
  handle.setAttribute("role", "slider");
  handle.setAttribute("aria-valuemin", "0");
  handle.setAttribute("aria-valuemax", "100");
  handle.setAttribute("aria-label", "Border between the two pictures");
  handle.addEventListener("keydown", function (event) {
    const by = { ArrowLeft: -SPLIT_STEP, ArrowRight: SPLIT_STEP, Home: -100, End: 100 }[event.key];
    if (!by || event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    setSplit(state.split + by);
  });
  return handle;
}

const slider = makeSlider();

function setSplit(percent) {
  state.split = Math.min(100, Math.max(0, percent));
  stage.style.setProperty("--split", `${state.split}%`);
  slider.setAttribute("aria-valuenow", String(Math.round(state.split)));
}

// Which layers of the stack are seen, and what is written below.
function arrangeStack(row) {
  const pane = panes[0];
  if (!pane) return;
  const sliding = state.mode === "slider";
  for (const layer of pane.layers) {
    layer.holder.classList.toggle("left", sliding && layer.column === state.left);
    layer.holder.hidden = layer.column !== state.right && !(sliding && layer.column === state.left);
  }
  pane.element.lastElementChild.replaceChildren(
    ...(sliding ? [captionOf(row, state.left)] : []),
    captionOf(row, state.right)
  );
  if (sliding) pane.box.append(slider);
  else slider.remove();
}

// Gives the panes the arrangement in which the pictures are largest.
function fitStage() {
  if (!panes.length || !stage.clientWidth) return;
  for (const pane of panes) pane.size = pane.layers[0].size;
  const [width, height] = [stage.clientWidth, stage.clientHeight];
  const below = Math.max(...panes.map((pane) => pane.element.lastElementChild.offsetHeight));
  let best = { scale: 0, columns: 1 };
  for (let columns = 1; columns <= panes.length; columns += 1) {
    const rows = Math.ceil(panes.length / columns);
    const paneWidth = (width - PANE_GAP * (columns - 1)) / columns;
    const paneHeight = height / rows - below;
    const scale = Math.min(paneWidth / panes[0].size[0], paneHeight / panes[0].size[1]);
    if (scale > best.scale) best = { scale, columns };
  }
  stage.style.setProperty("--pane-columns", best.columns);
  for (const pane of panes) [pane.width, pane.height] = [pane.box.clientWidth, pane.box.clientHeight];
  paintView();
}

// The choices below the pictures: which of them are seen, what differences are taken to, the way to look.
function group(words, columns, chosen, choose) {
  const made = element("div", "segmented");
  made.setAttribute("role", "group");
  made.setAttribute("aria-label", words);
  for (const column of columns) {
    const choice = button("", data.columns[column].heading, "", () => choose(column));
    choice.setAttribute("aria-pressed", String(column === chosen));
    made.append(choice);
  }
  return element("div", "choice", element("span", "label", words), made);
}

function showChoices(row) {
  const [all, pairs] = [available(row), comparable(row)];
  const made = [];
  if (state.mode === "slider") {
    made.push(group("left", pairs, state.left, (column) => pick("left", column)));
    made.push(group("right", pairs, state.right, (column) => pick("right", column)));
  } else if (state.mode === "one") {
    made.push(group("shown", all, state.right, (column) => pick("right", column)));
  } else if (state.mode === "difference") {
    made.push(group("to", pairs, state.against, chooseAgainst), gainControl());
  }
  if (!made.length) {
    made.push(element("span", "hint mouse", "wheel or + to zoom · ← → other images · ? all keys"));
    made.push(element("span", "hint touch", "pinch to zoom · swipe for other images"));
  }
  const focused = choices.contains(document.activeElement) ? document.activeElement.textContent : null;
  choices.replaceChildren(...made);
  if (focused) Array.from(choices.querySelectorAll("button[aria-pressed=true]")).pop()?.focus();
}

function gainControl() {
  const input = element("input");
  Object.assign(input, { type: "range", min: 0, max: GAINS.length - 1, step: 1, value: GAINS.indexOf(state.gain) });
  const shown = element("output", "", `× ${state.gain}`);
  input.setAttribute("aria-label", "How much differences are magnified");
  input.addEventListener("input", function () {
    setGain(GAINS[Number(input.value)]);
    shown.textContent = `× ${state.gain}`;
  });
  return element("label", "choice gain", element("span", "label", "gain"), input, shown);
}

function setGain(gain) {
  state.gain = gain;
  stage.style.setProperty("--gain", gain);
}

function pick(side, column) {
  const other = side === "left" ? "right" : "left";
  if (state.mode === "slider" && column === state[other]) state[other] = state[side]; // they change places
  else if (state.mode === "one" && column !== state.right) state.left = state.right;
  state[side] = column;
  refresh();
}

function chooseAgainst(column) {
  state.against = column;
  rebuild();
}

function setMode(mode) {
  const stays = ["slider", "one"].includes(mode) && ["slider", "one"].includes(state.mode);
  state.mode = mode;
  const pairs = comparable(currentRow());
  if (mode === "slider" && !pairs.includes(state.right)) state.right = pairs.find((column) => column !== state.left);
  if (!stays) rebuild();
  else {
    settle(currentRow());
    stage.className = `stage ${state.mode}`;
    refresh();
  }
}

// The keys of the viewer; help.js tells them.
const ZOOM_STEP = 1.4;
const PAN_STEP = 60; // pixels

function nextAgainst() {
  const pairs = comparable(currentRow());
  if (state.mode !== "difference") setMode("difference");
  else chooseAgainst(pairs[(pairs.indexOf(state.against) + 1) % pairs.length]);
}

function flip() {
  const other = state.left;
  if (state.mode === "slider") pick("right", other);
  else if (state.mode === "one") pick("right", other);
  else setMode("one");
}

function changeGain(by) {
  setGain(GAINS[Math.min(GAINS.length - 1, Math.max(0, GAINS.indexOf(state.gain) + by))]);
  refresh();
}

function pickByNumber(key) {
  const column = available(currentRow())[Number(key) - 1];
  if (column === undefined) return;
  if (state.mode !== "slider" && state.mode !== "one") setMode("one");
  pick("right", column);
}

const VIEWER_KEYS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  "+": () => zoomInMiddle(ZOOM_STEP),
  "=": () => zoomInMiddle(ZOOM_STEP),
  "-": () => zoomInMiddle(1 / ZOOM_STEP),
  0: fitView,
  z: zoomToPixels,
  a: () => setMode("side"),
  s: () => setMode("slider"),
  o: () => setMode("one"),
  d: nextAgainst,
  x: flip,
  g: () => changeGain(1),
  f: () => changeGain(-1),
  "[": () => setSplit(state.split - SPLIT_STEP),
  "]": () => setSplit(state.split + SPLIT_STEP),
  "?": () => showHelp(),
};
const PANS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function onViewerKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.tagName === "INPUT";
  if (typing && event.key.startsWith("Arrow")) return;
  const pan = PANS[event.key];
  let action = VIEWER_KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (pan && (event.shiftKey || !action)) action = () => panes.length && panBy(pan[0] * PAN_STEP, pan[1] * PAN_STEP, panes[0]);
  if (/^[1-9]$/.test(event.key)) action = () => pickByNumber(event.key);
  if (event.key === " " && event.target === stage) action = flip;
  if (!action) return;
  event.preventDefault();
  action();
}

// A click on a picture opens its row in a window of its own: side by side, with a slider, one by one, or as differences.
const MODES = [
  ["side", "Side by side", "a"],
  ["slider", "Slider", "s"],
  ["one", "One by one", "o"],
  ["difference", "Difference", "d"],
];
const GAINS = [1, 2, 4, 8, 16, 32];

const state = { shell: null, mode: "slider", left: 0, right: 0, against: 0, gain: 4, split: 50 };
let opener = null; // what gets the focus back
let pushed = false; // whether opening made an entry in the browser's history

const dialog = element("dialog", "viewer");
const nameShown = element("h2", "name");
const placeShown = element("span", "place");
const zoomShown = element("output", "zoom");
const stage = element("div", "stage");
const choices = element("div", "choices");
const openFile = element("a", "tool", "Open file");
const modeButtons = MODES.map(([mode, words, key]) => button("", words, `${words} (${key.toUpperCase()})`, () => setMode(mode)));

function build() {
  dialog.setAttribute("aria-label", "Viewer");
  stage.tabIndex = 0;
  stage.setAttribute("role", "group");
  stage.setAttribute("aria-label", "Pictures; arrow keys with shift move them, plus and minus zoom");
  openFile.target = "_blank";
  openFile.rel = "noopener";
  const modes = element("div", "segmented", ...modeButtons);
  modes.setAttribute("role", "group");
  modes.setAttribute("aria-label", "Way to look");
  const tools = element(
    "div",
    "tools",
    button("tool", "−", "Zoom out (−)", () => zoomInMiddle(1 / ZOOM_STEP)),
    zoomShown,
    button("tool", "+", "Zoom in (+)", () => zoomInMiddle(ZOOM_STEP)),
    button("tool", "Fit", "Whole picture (0)", fitView),
    button("tool", "1:1", "One pixel of the picture on one of the screen (1:1, Z)", zoomToPixels),
    openFile,
    button("tool", "?", "Keys (?)", () => showHelp())
  );
  const title = element("div", "title", nameShown, placeShown);
  const top = element("div", "bar top", title, modes, tools, button("tool close", "×", "Close (Esc)", () => dialog.close()));
  const bottom = element(
    "div",
    "bar bottom",
    button("tool step", "‹", "Previous image (←)", () => step(-1)),
    choices,
    button("tool step", "›", "Next image (→)", () => step(1))
  );
  dialog.append(top, stage, bottom);
  document.body.append(dialog);
}

function showZoom(scale) {
  zoomShown.textContent = `${Math.round(scale * 100)} %`;
}

function zoomToPixels() {
  if (panes.length) zoomInMiddle(pixelZoom(panes[0]) / view.zoom);
}

function currentRow() {
  return data.rows[Number(state.shell.dataset.row)];
}

// Makes the choices possible for this row: pictures may be missing, another scene cannot be compared.
function settle(row) {
  const [all, pairs] = [available(row), comparable(row)];
  const fallback = (wanted, list) => (list.includes(wanted) ? wanted : list[0]);
  state.right = fallback(state.right, all);
  if (!pairs.includes(state.right) && state.mode === "slider") state.mode = "one";
  if (pairs.length < 2 && state.mode !== "side") state.mode = "one";
  state.left = fallback(state.left, pairs);
  if (state.left === state.right) state.left = fallback(BEFORE, pairs.filter((column) => column !== state.right));
  state.against = fallback(state.against, pairs);
}

function rebuild() {
  const row = currentRow();
  settle(row);
  panes = { side: sidePanes, slider: stackPanes, one: stackPanes, difference: differencePanes }[state.mode](row);
  stage.replaceChildren(...panes.map((pane) => pane.element));
  stage.className = `stage ${state.mode}`;
  stage.style.setProperty("--gain", state.gain);
  refresh();
}

// Shows the choices again without reloading a picture.
function refresh() {
  const row = currentRow();
  const shown = visibleShells();
  nameShown.textContent = row.name;
  placeShown.textContent = `${shown.indexOf(state.shell) + 1} of ${shown.length}`;
  if (state.mode === "slider" || state.mode === "one") arrangeStack(row);
  MODES.forEach(([mode], index) => modeButtons[index].setAttribute("aria-pressed", String(mode === state.mode)));
  modeButtons[1].disabled = modeButtons[3].disabled = comparable(row).length < 2;
  const label = data.columns[state.right].label;
  openFile.href = row.originals[label] || row.images[label] || "#";
  openFile.title = `${data.columns[state.right].heading}, the file itself`;
  showChoices(row);
  fitStage();
}

function goTo(shell) {
  state.shell = shell;
  Object.assign(view, { zoom: 1, x: 0.5, y: 0.5 });
  rebuild();
  remember("replaceState");
  preload();
}

function step(by) {
  const shown = visibleShells().filter((shell) => available(rowOf(shell)).length);
  if (shown.length) goTo(shown[(shown.indexOf(state.shell) + by + shown.length) % shown.length]);
}

// Asks for the neighbors' pictures, so that the next step shows them at once.
function preload() {
  const shown = visibleShells();
  const next = shown[shown.indexOf(state.shell) + 1];
  if (next) for (const column of available(rowOf(next))) new Image().src = addressOf(rowOf(next), column);
}

function remember(how) {
  try {
    window.history[how]({ viewer: pushed }, "", `#view-${Number(state.shell.dataset.row) + 1}`);
  } catch (error) {
    // some browsers allow no history in files: the page works without
  }
}

function openViewer(shell, column, push) {
  if (!available(rowOf(shell)).length) return;
  opener = document.activeElement;
  state.right = column === BEFORE && AFTER !== undefined ? AFTER : column;
  state.left = BEFORE === undefined ? 0 : BEFORE;
  const row = rowOf(shell);
  state.against = TARGET !== undefined && comparable(row).includes(TARGET) ? TARGET : state.left;
  pushed = push;
  if (push) {
    state.shell = shell;
    window.history.scrollRestoration = "manual"; // going back shall lead to the image seen last
    remember("pushState");
  }
  setSplit(50);
  dialog.showModal();
  goTo(shell);
  stage.focus();
}

function onClose() {
  const shell = state.shell;
  panes = [];
  stage.replaceChildren();
  fill(shell);
  shell.scrollIntoView({ block: "nearest" });
  const back = opener && shell.contains(opener) ? opener : shell.querySelector(".picture");
  if (back) back.focus({ preventScroll: true });
  if (!window.location.hash.startsWith("#view-")) return;
  if (pushed) window.history.back();
  else window.history.replaceState(null, "", window.location.pathname + window.location.search);
  pushed = false;
}

function openFromAddress() {
  const found = /^#view-(\d+)$/.exec(window.location.hash);
  const shell = found ? document.getElementById(`image-${found[1]}`) : null;
  if (!shell) {
    if (dialog.open) dialog.close();
    window.history.scrollRestoration = "auto";
  } else if (!dialog.open) openViewer(shell, AFTER === undefined ? 0 : AFTER, false);
  else if (shell !== state.shell) goTo(shell);
}

build();
listenForGestures(stage);
dialog.addEventListener("keydown", onViewerKey);
dialog.addEventListener("close", onClose);
new ResizeObserver(fitStage).observe(stage);
results.addEventListener("click", function (event) {
  const picture = event.target.closest(".picture");
  if (picture) openViewer(picture.closest(".row"), Number(picture.dataset.column), true);
});
window.addEventListener("popstate", openFromAddress);
