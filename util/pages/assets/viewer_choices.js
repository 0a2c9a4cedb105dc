// The choices below the pictures: which of them are seen, what differences are taken to, the way to look.
function group(words, columns, chosen, choose) {
  const made = element("div", "segmented");
  made.setAttribute("role", "group");
  made.setAttribute("aria-label", words);
  for (const column of columns) {
    const choice = button("", data.columns[column].heading, "", () => choose(column));
    choice.setAttribute("aria-pressed", String(column === chosen));
    made.append(choice);
  }
  return element("div", "choice", element("span", "label", words), made);
}

function showChoices(row) {
  const [all, pairs] = [available(row), comparable(row)];
  const made = [];
  if (state.mode === "slider") {
    made.push(group("left", pairs, state.left, (column) => pick("left", column)));
    made.push(group("right", pairs, state.right, (column) => pick("right", column)));
  } else if (state.mode === "one") {
    made.push(group("shown", all, state.right, (column) => pick("right", column)));
  } else if (state.mode === "difference") {
    made.push(group("to", pairs, state.against, chooseAgainst), gainControl());
  }
  if (!made.length) {
    made.push(element("span", "hint mouse", "wheel or + to zoom · ← → other images · ? all keys"));
    made.push(element("span", "hint touch", "pinch to zoom · swipe for other images"));
  }
  const focused = choices.contains(document.activeElement) ? document.activeElement.textContent : null;
  choices.replaceChildren(...made);
  if (focused) Array.from(choices.querySelectorAll("button[aria-pressed=true]")).pop()?.focus();
}

function gainControl() {
  const input = element("input");
  Object.assign(input, { type: "range", min: 0, max: GAINS.length - 1, step: 1, value: GAINS.indexOf(state.gain) });
  const shown = element("output", "", `× ${state.gain}`);
  input.setAttribute("aria-label", "How much differences are magnified");
  input.addEventListener("input", function () {
    setGain(GAINS[Number(input.value)]);
    shown.textContent = `× ${state.gain}`;
  });
  return element("label", "choice gain", element("span", "label", "gain"), input, shown);
}

function setGain(gain) {
  state.gain = gain;
  stage.style.setProperty("--gain", gain);
}

function pick(side, column) {
  const other = side === "left" ? "right" : "left";
  if (state.mode === "slider" && column === state[other]) state[other] = state[side]; // they change places
  else if (state.mode === "one" && column !== state.right) state.left = state.right;
  state[side] = column;
  refresh();
}

function chooseAgainst(column) {
  state.against = column;
  rebuild();
}

function setMode(mode) {
  const stays = ["slider", "one"].includes(mode) && ["slider", "one"].includes(state.mode);
  state.mode = mode;
  const pairs = comparable(currentRow());
  if (mode === "slider" && !pairs.includes(state.right)) state.right = pairs.find((column) => column !== state.left);
  if (!stays) rebuild();
  else {
    settle(currentRow());
    stage.className = `stage ${state.mode}`;
    refresh();
  }
}
