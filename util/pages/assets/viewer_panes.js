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
