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
