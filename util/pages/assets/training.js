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
  const told = {
    running: `running since ${clockTime(status.started)}`,
    finished: `finished ${clockTime(status.updated)}`,
    stopped: `stopped ${clockTime(status.updated)}`,
  };
  badge.textContent = silent ? `no news for ${timeSpan(silence)}: perhaps killed` : told[status.state];
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
    // The program was started anew: the page has other options now. Once only, should the two files not fit together.
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
