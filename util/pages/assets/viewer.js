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

// Shows the choices anew without loading a picture anew.
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

// Asks for the neighbours' pictures, so that the next step shows them at once.
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
