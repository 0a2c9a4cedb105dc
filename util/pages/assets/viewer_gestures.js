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
