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
