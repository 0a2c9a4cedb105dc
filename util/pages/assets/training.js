// Curves over epochs, one small chart each. All charts share smoothing, scale, range, the pointer's epoch and the
// epoch of the pictures that are shown.
const view = { smooth: 0.5, log: false, share: 1, epoch: null, shown: null };
const SVG = "http://www.w3.org/2000/svg";
const EDGE = { left: 52, right: 10, top: 10, bottom: 22 };
const HEIGHT = 150;
const TALL = 190;
const WIDEST_WINDOW = 0.2; // share of a curve's points that the strongest smoothing averages over
const FEW_POINTS = 80; // so many are drawn as dots
const OUTLIERS = 0.005; // share of the highest and of the lowest values that may leave the picture

function svg(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.append(node);
  return node;
}

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return Number(value.toPrecision(3)).toExponential();
  return String(Number(value.toPrecision(4)));
}

// Round numbers that lie in [low, high], about `wanted` of them.
function ticks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) {
    found.push(Number(tick.toPrecision(12)));
  }
  return found;
}

// Ticks of a logarithmic axis: powers of ten, or round numbers where there is less than one power to see.
function logTicks(low, high) {
  const first = Math.ceil(low - 1e-9), last = Math.floor(high + 1e-9);
  if (last - first < 1) return ticks(10 ** low, 10 ** high, 6).filter((tick) => tick > 0);
  const step = Math.ceil((last - first + 1) / 5);
  return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, index) => 10 ** (first + index * step));
}

// Mean over a window around each point; gaps stay gaps. Strength 0 to 1 does the same to a curve of many points as to
// one of few.
function smoothed(values, strength) {
  const reach = Math.floor((strength ** 2 * WIDEST_WINDOW * values.length) / 2);
  if (reach < 1) return values;
  const sums = [0], counts = [0];
  for (const value of values) {
    sums.push(sums.at(-1) + (value ?? 0));
    counts.push(counts.at(-1) + (value === null ? 0 : 1));
  }
  return values.map((value, index) => {
    if (value === null) return null;
    const from = Math.max(index - reach, 0), to = Math.min(index + reach + 1, values.length);
    return (sums[to] - sums[from]) / (counts[to] - counts[from]);
  });
}

function lineThrough(points) {
  let path = "", pen = "M";
  for (const point of points) {
    if (point === null) pen = "M";
    else {
      path += `${pen}${point[0].toFixed(1)},${point[1].toFixed(1)}`;
      pen = "L";
    }
  }
  return path;
}

function nearest(positions, wanted) {
  let low = 0, high = positions.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (positions[middle] < wanted) low = middle;
    else high = middle;
  }
  return wanted - positions[low] < positions[high] - wanted ? low : high;
}

class Chart {
  // `about` is null for a loss; for a metric it holds heading, unit, higher (is better) and digits.
  constructor(name, about, onPick) {
    this.name = name;
    this.about = about;
    this.height = about ? TALL : HEIGHT;
    this.isExact = Boolean(about) || name === "learning_rate";
    this.positions = this.values = [];
    this.value = element("output", { class: "reading" });
    const words = about ? [element("span", { class: "words" }, about.heading), " "] : [];
    const heading = element("span", { class: "name" }, ...words, element("code", {}, name));
    this.picture = svg("svg", { role: "img", tabindex: "0", height: this.height });
    this.figure = element("figure", { class: "chart" }, element("figcaption", {}, heading, this.value), this.picture);
    if (about) this.figure.append((this.best = element("p", { class: "best" })));
    this.listen(onPick);
  }

  listen(onPick) {
    const epochAt = (event) => {
      const box = this.picture.getBoundingClientRect();
      return this.epochOf(event.clientX - box.left);
    };
    this.picture.addEventListener("pointermove", (event) => charts.point(epochAt(event)));
    this.picture.addEventListener("pointerleave", () => charts.point(null));
    this.picture.addEventListener("click", (event) => onPick(epochAt(event)));
    this.picture.addEventListener("blur", () => charts.point(null));
    this.picture.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (way && this.positions.length) {
        const now = view.epoch === null ? this.positions.length : nearest(this.positions, view.epoch);
        charts.point(this.positions[Math.min(Math.max(now + way, 0), this.positions.length - 1)]);
      } else if (event.key === "Enter" && view.epoch !== null) onPick(view.epoch);
      else return;
      event.preventDefault();
    });
  }

  set(positions, values) {
    this.positions = positions;
    this.values = values;
  }

  write(value) {
    if (value === null || value === undefined) return "–";
    return this.about ? `${value.toFixed(this.about.digits)} ${this.about.unit}`.trim() : short(value);
  }

  epochOf(x) {
    const [low, high] = this.span || [0, 1];
    const share = (x - EDGE.left) / (this.width - EDGE.left - EDGE.right);
    return low + Math.min(Math.max(share, 0), 1) * (high - low);
  }

  draw(span) {
    this.width = this.picture.clientWidth;
    if (!this.width) return;
    this.span = span;
    const curve = this.isExact ? this.values : smoothed(this.values, view.smooth);
    this.curve = curve;
    const inside = this.positions.map((position) => position >= span[0] && position <= span[1]);
    const seen = (list) => list.filter((value, index) => inside[index] && value !== null);
    const log = view.log && !this.about && seen(this.values).every((value) => value > 0);
    const scale = log ? Math.log10 : (value) => value;
    const [low, high] = this.domain(seen(this.values).map(scale), seen(curve).map(scale));
    const right = this.width - EDGE.right, bottom = this.height - EDGE.bottom;
    this.x = (epoch) => EDGE.left + ((epoch - span[0]) / (span[1] - span[0] || 1)) * (right - EDGE.left);
    this.y = (value) => bottom - ((scale(value) - low) / (high - low)) * (bottom - EDGE.top);
    this.picture.replaceChildren();
    this.axes(span, log ? logTicks(low, high) : ticks(low, high, 6));
    const clip = `clip-${this.about ? "metric" : "loss"}-${this.name.replace(/[^\w-]/g, "_")}`;
    const frame = svg("clipPath", { id: clip }, this.picture);
    svg("rect", { x: EDGE.left, y: 0, width: right - EDGE.left + 4, height: bottom + 1 }, frame);
    const plot = svg("g", { "clip-path": `url(#${clip})` }, this.picture);
    const points = (list) => list.map((value, i) => (value === null ? null : [this.x(this.positions[i]), this.y(value)]));
    const raw = points(this.values);
    if (curve !== this.values) svg("path", { d: lineThrough(raw), class: "raw" }, plot);
    svg("path", { d: lineThrough(points(curve)), class: "curve" }, plot);
    if (raw.length <= (this.about ? FEW_POINTS : 1)) {
      for (const point of raw) if (point) svg("circle", { cx: point[0], cy: point[1], r: 2.5, class: "dot" }, plot);
    }
    this.markBest(plot);
    this.shown = svg("line", { y1: EDGE.top, y2: bottom, class: "shown" }, this.picture);
    this.pointer = svg("line", { y1: EDGE.top, y2: bottom, class: "pointer" }, this.picture);
    this.spot = svg("circle", { r: 4, class: "spot" }, this.picture);
    const last = this.values.findLast((value) => value !== null);
    this.picture.setAttribute("aria-label", `${this.name} over epochs, now ${this.write(last)}; arrow keys read values`);
    this.follow();
  }

  // What the vertical axis spans: nearly all values and the whole curve, with a little air.
  domain(values, curve) {
    const sorted = values.sort((a, b) => a - b);
    const cut = Math.floor(sorted.length * OUTLIERS);
    const ends = [sorted[cut], sorted[sorted.length - 1 - cut], ...curve].filter((value) => Number.isFinite(value));
    if (!ends.length) return [0, 1];
    let low = ends.reduce((a, b) => Math.min(a, b)), high = ends.reduce((a, b) => Math.max(a, b));
    const air = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    return [low - air, high + air];
  }

  axes(span, levels) {
    const right = this.width - EDGE.right, bottom = this.height - EDGE.bottom;
    for (const level of levels) {
      const y = this.y(level);
      svg("line", { x1: EDGE.left, x2: right, y1: y, y2: y, class: "rule" }, this.picture);
      svg("text", { x: EDGE.left - 6, y: y + 4, class: "tick left" }, this.picture).textContent = short(level);
    }
    const epochs = ticks(span[0], span[1], Math.max(2, Math.floor(this.width / 48)));
    for (const epoch of epochs) {
      const label = svg("text", { x: this.x(epoch), y: this.height - 6, class: "tick" }, this.picture);
      label.textContent = epoch === epochs[0] ? `epoch ${short(epoch)}` : short(epoch);
    }
  }

  markBest(plot) {
    if (!this.about) return;
    const known = this.values.filter((value) => value !== null);
    if (!known.length) return;
    const best = known.reduce((a, b) => ((this.about.higher ? b > a : b < a) ? b : a));
    const index = this.values.indexOf(best);
    const place = { cx: this.x(this.positions[index]), cy: this.y(best), r: 5, class: "best-spot" };
    svg("circle", place, plot);
    this.best.textContent = `best ${this.write(best)} at epoch ${short(this.positions[index])}`;
    this.best.title = this.about.higher ? "higher is better" : "lower is better";
  }

  // Show the pointer's epoch and the pictures' epoch; the curves stay as they are.
  follow() {
    if (!this.pointer) return;
    const place = (line, epoch) => {
      const visible = epoch !== null && epoch >= this.span[0] && epoch <= this.span[1];
      line.setAttribute("visibility", visible ? "visible" : "hidden");
      if (visible) for (const end of ["x1", "x2"]) line.setAttribute(end, this.x(epoch));
    };
    place(this.shown, view.shown);
    let index = this.positions.length - 1;
    if (view.epoch !== null && index >= 0) index = nearest(this.positions, view.epoch);
    else while (index > 0 && this.values[index] === null) index -= 1;
    const value = index >= 0 ? this.curve[index] : null;
    place(this.pointer, view.epoch === null ? null : this.positions[index]);
    const inside = view.epoch !== null && value !== null && value !== undefined;
    this.spot.setAttribute("visibility", inside ? "visible" : "hidden");
    if (inside) {
      this.spot.setAttribute("cx", this.x(this.positions[index]));
      this.spot.setAttribute("cy", this.y(value));
    }
    const when = view.epoch === null ? [] : [element("span", { class: "at" }, `epoch ${short(this.positions[index])}`), " "];
    this.value.replaceChildren(...when, element("strong", {}, this.write(value)));
  }
}

const charts = {
  all: new Map(),

  // Take over new curves into the section with this id; `about` is empty for losses.
  update(id, curves, about, onPick) {
    const section = document.getElementById(id);
    const names = Object.keys(curves.values).filter((name) => curves.values[name].some((value) => value !== null));
    for (const name of names) {
      const key = `${id} ${name}`;
      if (!this.all.has(key)) {
        const chart = new Chart(name, about ? about[name] : null, onPick);
        this.all.set(key, chart);
        section.querySelector(".charts").append(chart.figure);
      }
      this.all.get(key).set(curves.positions, curves.values[name]);
    }
    section.hidden = !names.length;
  },

  draw() {
    let low = Infinity, high = -Infinity;
    for (const chart of this.all.values()) {
      if (!chart.positions.length) continue;
      low = Math.min(low, chart.positions[0]);
      high = Math.max(high, chart.positions[chart.positions.length - 1]);
    }
    if (high < low) return;
    if (view.share === 1 && low < 0.1 * high) low = 0;
    const span = [high - (high - low) * view.share, high];
    if (span[0] === span[1]) span[0] -= 1;
    for (const chart of this.all.values()) chart.draw(span);
  },

  point(epoch) {
    view.epoch = epoch;
    this.follow();
  },

  follow() {
    for (const chart of this.all.values()) chart.follow();
  },
};

// The pictures of one moment of the training, and the slider through all of them.
const PLAY_MILLISECONDS = 350;
const PICTURE_PIXELS = 180; // at least so wide, but two side by side on any screen

const strip = {
  moments: [],
  words: {},
  index: -1,
  follows: true, // the newest pictures, until the user looks at older ones
  timer: null,

  start(onShow) {
    this.onShow = onShow;
    this.slider = document.getElementById("time");
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
    document.getElementById("earlier").addEventListener("click", () => this.show(this.index - 1));
    document.getElementById("later").addEventListener("click", () => this.show(this.index + 1));
    document.getElementById("play").addEventListener("click", () => (this.timer ? this.pause() : this.play()));
    this.slider.addEventListener("pointerdown", () => this.pause());
  },

  update(moments, words) {
    const shown = this.moments[this.index];
    this.moments = moments;
    this.words = words;
    document.getElementById("pictures").hidden = !moments.length;
    if (!moments.length) return;
    this.slider.max = moments.length - 1;
    const wanted = shown ? shown.total_images : Number(new URLSearchParams(location.hash.slice(1)).get("images"));
    const same = moments.findIndex((moment) => moment.total_images === wanted);
    if (!shown && same >= 0) this.follows = false;
    this.show(this.follows || same < 0 ? moments.length - 1 : same);
  },

  show(wanted) {
    const index = Math.min(Math.max(wanted, 0), this.moments.length - 1);
    const moment = this.moments[index];
    this.index = index;
    this.follows = index === this.moments.length - 1;
    this.slider.value = index;
    const after = moment.images_in_epoch.toLocaleString("en");
    const text = `epoch ${moment.epoch}, after ${after} images`;
    this.slider.setAttribute("aria-valuetext", text);
    document.getElementById("moment").textContent = `${text} (${index + 1} of ${this.moments.length})`;
    document.getElementById("earlier").disabled = index === 0;
    document.getElementById("later").disabled = this.follows;
    this.draw(moment, text);
    for (const near of [index - 1, index + 1]) this.fetchAhead(this.moments[near]);
    try {
      const address = this.follows ? location.pathname : `#images=${moment.total_images}`;
      history.replaceState(null, "", address);
    } catch {
      // Some browsers refuse this for files; the slider works all the same.
    }
    this.onShow(moment);
  },

  // The same figures take the other pictures, so that a column stays where it is.
  draw(moment, text) {
    const room = document.getElementById("strip");
    const labels = Object.keys(moment.pictures);
    for (const figure of [...room.children]) if (!labels.includes(figure.dataset.label)) figure.remove();
    for (const label of labels) {
      const picture = moment.pictures[label];
      const address = picture.path.split("/").map(encodeURIComponent).join("/");
      const words = this.words[label] || label;
      const figure = [...room.children].find((one) => one.dataset.label === label) || this.figure(label, words);
      room.append(figure);
      figure.querySelector("a").href = address;
      const image = figure.querySelector("img");
      image.width = picture.width;
      image.height = picture.height;
      image.alt = `${words}, ${text}`;
      if (image.getAttribute("src") !== address) image.src = address;
    }
    this.arrange();
  },

  // Rows as equally full as they can be.
  arrange() {
    const room = document.getElementById("strip");
    const count = room.children.length;
    const fit = Math.max(2, Math.floor(room.clientWidth / PICTURE_PIXELS));
    room.style.setProperty("--columns", Math.ceil(count / Math.ceil(count / fit)) || 1);
  },

  figure(label, words) {
    const name = this.words[label] ? [element("span", { class: "words" }, words), " "] : [];
    const link = element("a", { target: "_blank", title: "Open the picture by itself" }, element("img", {}));
    const figure = element("figure", {}, link, element("figcaption", {}, ...name, element("code", {}, label)));
    figure.dataset.label = label;
    return figure;
  },

  fetchAhead(moment) {
    if (!moment) return;
    for (const picture of Object.values(moment.pictures)) {
      new Image().src = picture.path.split("/").map(encodeURIComponent).join("/");
    }
  },

  // The moment nearest to a time in epochs.
  pick(epoch) {
    if (this.moments.length) this.show(nearest(this.moments.map((moment) => moment.position), epoch));
  },

  play() {
    if (this.follows) this.show(0);
    document.getElementById("play").textContent = "Pause";
    this.timer = setInterval(() => {
      this.show(this.index + 1);
      if (this.follows) this.pause();
    }, PLAY_MILLISECONDS);
  },

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    document.getElementById("play").textContent = "Play";
  },
};

// The page of a running training: takes the data that data.js brings, now and again and again.
const REFRESH_MILLISECONDS = 10000;
const SILENCE_SECONDS = 900; // no news for so long: is it still running?

function timeSpan(seconds) {
  const minutes = Math.round(seconds / 60);
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 60 * 24) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

function clockTime(seconds) {
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

function showState(status) {
  const badge = document.getElementById("state");
  const silence = Date.now() / 1000 - status.updated;
  const silent = status.state === "running" && silence > SILENCE_SECONDS;
  badge.className = `state ${silent ? "silent" : status.state}`;
  const states = {
    running: `running since ${clockTime(status.started)}`,
    finished: `finished ${clockTime(status.updated)}`,
    stopped: `stopped ${clockTime(status.updated)}`,
  };
  badge.textContent = silent ? `no news for ${timeSpan(silence)}: perhaps killed` : states[status.state];
  const place = status.epoch - 1 + status.images_in_epoch / Math.max(status.images_per_epoch, 1);
  const share = Math.min(place / Math.max(status.total_epochs, 1), 1);
  const bar = document.getElementById("bar");
  document.getElementById("done").style.width = `${(100 * share).toFixed(2)}%`;
  bar.setAttribute("aria-valuenow", (100 * share).toFixed(0));
  const count = (number) => number.toLocaleString("en");
  const facts = [
    `epoch ${status.epoch} of ${status.total_epochs}`,
    `${count(status.images_in_epoch)} of ${count(status.images_per_epoch)} images`,
    `${count(status.total_images)} in all`,
    `learning rate ${short(status.learning_rate)}`,
    `${short(Number(status.images_per_second.toPrecision(3)))} images/s`,
    `data wait ${Math.round(100 * status.data_wait)} %`,
  ];
  if (status.state === "running") {
    const left = ((status.total_epochs - place) * status.images_per_epoch) / status.images_per_second;
    if (Number.isFinite(left)) facts.push(`about ${timeSpan(left)} left`);
    facts.push(`updated ${clockTime(status.updated)}`);
  }
  if (status.resumed_at !== null) facts.push(`resumed at image ${count(status.resumed_at)}`);
  document.getElementById("facts").textContent = facts.join(" · ");
  document.title = `${Math.floor(100 * share)} % ${document.querySelector("h1").textContent}`;
}

const page = { status: null };

// Called by data.js.
window.trainingData = (data) => {
  if (data.status.start !== document.body.dataset.start) {
    // The program was restarted: the page has other options now. Once only, should the two files not fit together.
    if (sessionStorage.getItem("start") !== data.status.start) {
      sessionStorage.setItem("start", data.status.start);
      location.reload();
      return;
    }
  }
  page.status = data.status;
  showState(data.status);
  const length = Math.max(data.status.images_per_epoch, 1);
  for (const moment of data.moments) moment.position = moment.epoch - 1 + moment.images_in_epoch / length;
  const pick = (epoch) => strip.pick(epoch);
  charts.update("metrics", data.metrics, data.about, pick);
  charts.update("losses", data.losses, null, pick);
  strip.update(data.moments, data.words);
  charts.draw();
};

function refresh() {
  if (document.hidden || !page.status) return;
  const script = element("script", { src: `data.js?${Date.now()}` });
  script.addEventListener("load", () => script.remove());
  script.addEventListener("error", () => script.remove());
  document.body.append(script);
}

function findOption(text) {
  const wanted = text.trim().toLowerCase().replace(/^-+/, "");
  let found = 0;
  for (const row of document.querySelectorAll("#options tr")) {
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
    if (!row.hidden) found += 1;
  }
  for (const group of document.querySelectorAll("#options .group")) {
    group.hidden = !group.querySelector("tr:not([hidden])");
  }
  if (wanted) document.getElementById("all-options").open = true;
  document.getElementById("none-found").hidden = found > 0;
}

function start() {
  strip.start((moment) => {
    view.shown = moment.position;
    charts.follow();
  });
  const listen = (id, event, act) => document.getElementById(id).addEventListener(event, (call) => act(call.target));
  const smooth = document.getElementById("smooth");
  smooth.value = view.smooth;
  const changed = (key, value) => {
    view[key] = value;
    charts.draw();
  };
  listen("smooth", "input", (input) => changed("smooth", Number(input.value)));
  listen("log", "change", (input) => changed("log", input.checked));
  listen("range", "change", (input) => changed("share", Number(input.value)));
  if (document.getElementById("find")) listen("find", "input", (input) => findOption(input.value));
  new ResizeObserver(() => (strip.arrange(), charts.draw())).observe(document.querySelector("main"));
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, REFRESH_MILLISECONDS);
  setInterval(() => page.status && showState(page.status), REFRESH_MILLISECONDS);
}

start();
