// The overlay that tells the keys, and the keys of the page itself.
const KEY_WORDS = [
  ["On the page", [["/", "to the filter"], ["T", "colors: system, light, dark"], ["?", "this help"]]],
  [
    "In the viewer",
    [
      ["← →", "previous and next image"],
      ["A S O D", "side by side, slider, one by one, difference"],
      ["1 … 9", "show this column"],
      ["X, space", "flip between two pictures"],
      ["[ ]", "pull the slider (also arrow keys on it)"],
      ["D", "again: difference to another picture"],
      ["F G", "show differences weaker, stronger"],
      ["+ − 0", "zoom in, zoom out, whole picture"],
      ["Z", "one pixel of the picture on one of the screen"],
      ["shift + arrows", "move the magnified pictures"],
      ["Esc", "back to the page"],
    ],
  ],
  [
    "Mouse and fingers",
    [
      ["wheel, pinch", "zoom; all pictures follow"],
      ["drag", "pull the slider; move what is magnified"],
      ["double click", "magnify, and back"],
      ["swipe", "next image"],
    ],
  ],
];

const helpBox = element("dialog", "help");

function buildHelp() {
  helpBox.setAttribute("aria-label", "Help");
  helpBox.append(button("tool close", "×", "Close (Esc)", () => helpBox.close()));
  for (const [title, keys] of KEY_WORDS) {
    const list = element("dl", "");
    for (const [key, words] of keys) list.append(element("dt", "", element("kbd", "", key)), element("dd", "", words));
    helpBox.append(element("section", "", element("h2", "", title), list));
  }
  document.body.append(helpBox);
}

function showHelp() {
  helpBox.showModal();
}

function onPageKey(event) {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (typing || dialog.open || helpBox.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const action = { "/": () => filter.focus(), "?": showHelp, t: turnTheme }[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
}

buildHelp();
document.getElementById("help").addEventListener("click", showHelp);
document.addEventListener("keydown", onPageKey);
openFromAddress();
