// A click on a picture enlarges its row; a slider compares two pictures of the same scene.
(function () {
  "use strict";

  const data = JSON.parse(document.getElementById("page-data").textContent);
  const list = document.querySelector(".results");
  const START = 50; // position of the slider in percent
  const STEP = 5;
  let row = null; // the row shown
  let chosen = 0; // the column on the right of the slider

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text) made.textContent = text;
    return made;
  }

  function button(className, text, title, action) {
    const made = element("button", className, text);
    made.type = "button";
    if (title) {
      made.title = title;
      made.setAttribute("aria-label", title);
    }
    made.addEventListener("click", action);
    return made;
  }

  const box = element("dialog", "lightbox");
  const name = element("span", "name");
  const place = element("span", "place");
  const scores = element("ul", "scores");
  const frame = element("div", "frame");
  const right = element("img", "right");
  const left = element("img", "left");
  const leftTag = element("span", "tag before");
  const rightTag = element("span", "tag after");
  const choices = element("div", "choices");
  frame.append(right, left, element("div", "handle"), leftTag, rightTag);

  const top = element("div", "bar");
  top.append(name, place, scores, button("close", "×", "Close (Esc)", () => box.close()));
  const stage = element("div", "stage");
  stage.append(
    button("step previous", "‹", "Previous image (←)", () => move(-1)),
    frame,
    button("step next", "›", "Next image (→)", () => move(1))
  );
  const bottom = element("div", "bar");
  bottom.append(choices, element("span", "keys", "← → other image · shift ← → slider · Esc close"));
  box.append(top, stage, bottom);
  document.body.append(box);

  function indexOf(label) {
    return data.columns.findIndex((column) => column.label === label);
  }

  function picture(column) {
    return row.querySelector(`.picture[data-column="${column}"] img`);
  }

  function visibleRows() {
    return Array.from(list.children).filter((item) => !item.hidden);
  }

  function split(percent) {
    const kept = Math.min(100, Math.max(0, percent));
    frame.dataset.split = kept;
    frame.style.setProperty("--split", `${kept}%`);
  }

  function show() {
    const shownRows = visibleRows();
    const before = indexOf(data.before);
    const single = chosen === before || !data.columns[chosen].paired || before < 0 || !picture(before);
    name.textContent = data.rows[Number(row.dataset.row)].name;
    place.textContent = `${shownRows.indexOf(row) + 1} of ${shownRows.length}`;
    const own = row.querySelector(".scores");
    scores.replaceChildren(...(own ? own.cloneNode(true).children : []));
    frame.classList.toggle("single", single);
    load(right, chosen);
    rightTag.textContent = data.columns[chosen].heading + (data.columns[chosen].paired ? "" : " (unpaired)");
    if (!single) {
      load(left, before);
      leftTag.textContent = data.columns[before].heading;
    }
    fit();
    showChoices(before);
  }

  function load(image, column) {
    const source = picture(column);
    image.alt = source.alt;
    if (image.src !== source.src) image.src = source.src;
  }

  function fit() {
    const source = picture(chosen);
    const width = Number(source.getAttribute("width")) || source.naturalWidth || right.naturalWidth;
    const height = Number(source.getAttribute("height")) || source.naturalHeight || right.naturalHeight;
    if (width && height) frame.style.setProperty("--ratio", width / height);
  }

  function showChoices(before) {
    const made = data.columns.map(function (column, index) {
      const text = index === before || !column.paired ? column.heading : `compare with ${column.heading}`;
      const choice = button("", before < 0 ? column.heading : text, "", function () {
        chosen = index;
        show();
      });
      choice.setAttribute("aria-pressed", String(index === chosen));
      choice.disabled = !picture(index);
      choice.hidden = choice.disabled;
      return choice;
    });
    choices.replaceChildren(...made);
  }

  function move(by) {
    const shownRows = visibleRows();
    const next = shownRows[(shownRows.indexOf(row) + by + shownRows.length) % shownRows.length];
    row = next;
    if (!picture(chosen)) chosen = data.columns.findIndex((column, index) => picture(index));
    if (chosen >= 0) show();
  }

  function open(opened) {
    row = opened.closest(".row");
    chosen = Number(opened.dataset.column);
    const [before, after] = [indexOf(data.before), indexOf(data.after)];
    if (chosen === before && after >= 0 && picture(after)) chosen = after;
    split(START);
    box.showModal();
    show();
  }

  function follow(event) {
    const place = frame.getBoundingClientRect();
    split((100 * (event.clientX - place.left)) / place.width);
  }

  list.addEventListener("click", function (event) {
    const opened = event.target.closest(".picture");
    if (opened) open(opened);
  });
  right.addEventListener("load", fit);
  frame.addEventListener("pointerdown", function (event) {
    frame.setPointerCapture(event.pointerId);
    follow(event);
  });
  frame.addEventListener("pointermove", function (event) {
    if (frame.hasPointerCapture(event.pointerId)) follow(event);
  });
  box.addEventListener("keydown", function (event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    if (event.shiftKey) split(Number(frame.dataset.split) + STEP * by);
    else move(by);
  });
  box.addEventListener("close", function () {
    row.scrollIntoView({ block: "nearest" });
  });
})();
