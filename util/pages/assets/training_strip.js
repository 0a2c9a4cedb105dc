// The pictures of one moment of the training, and the slider through all of them.
const PLAY_MILLISECONDS = 350;
const PICTURE_PIXELS = 180; // at least so wide, but two side by side on any screen

const strip = {
  moments: [],
  words: {},
  index: -1,
  follows: true, // the newest pictures, until somebody looks at older ones
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
