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
