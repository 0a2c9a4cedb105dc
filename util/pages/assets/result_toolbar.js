// Sorting, filtering and counting rows.
const filter = document.getElementById("filter");
const order = document.getElementById("order");
const first = document.getElementById("first");
const last = document.getElementById("last");
const threshold = document.getElementById("measure"); // null on a page without numbers
const relation = document.getElementById("relation");
const bound = document.getElementById("bound");
const limits = document.getElementById("limits");
const count = document.getElementById("count");
const nothing = document.querySelector(".nothing");
const byName = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
let turned = false; // whether the second of the two orders is chosen

function rowOf(shell) {
  return data.rows[Number(shell.dataset.row)];
}

// Whether small values come first in the first order: A to Z, the worst first.
function risesAtFirst() {
  if (order.value === "name") return true;
  const [kind, , metric] = order.value.split(":");
  return kind !== "range" && data.metrics[Number(metric)].higher_is_better;
}

function comparison() {
  const rises = risesAtFirst() !== turned ? 1 : -1;
  return function (one, other) {
    const [a, b] = [rowOf(one), rowOf(other)];
    const names = byName.compare(a.name, b.name);
    if (order.value === "name") return rises * names;
    const [x, y] = [measure(a, order.value), measure(b, order.value)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined) || names;
    return x === y ? names : rises * (x < y ? -1 : 1);
  };
}

function sortRows() {
  shells.sort(comparison());
  results.append(...shells);
  const kind = order.value.split(":")[0];
  const words = { name: ["A → Z", "Z → A"], range: ["Largest first", "Smallest first"] };
  [first.textContent, last.textContent] = words[kind] || ["Worst first", "Best first"];
  first.setAttribute("aria-pressed", String(!turned));
  last.setAttribute("aria-pressed", String(turned));
}

function withinBound(row) {
  if (!threshold || threshold.value === "" || bound.value === "") return true;
  const value = measure(row, threshold.value);
  if (value === undefined) return false;
  return relation.value === "most" ? value <= Number(bound.value) : value >= Number(bound.value);
}

function filterRows() {
  const wanted = filter.value.trim().toLowerCase();
  let shown = 0;
  for (const shell of shells) {
    const row = rowOf(shell);
    shell.hidden = !(row.name.toLowerCase().includes(wanted) && withinBound(row));
    shown += shell.hidden ? 0 : 1;
  }
  const all = shells.length === 1 ? "1 image" : `${shells.length} images`;
  count.textContent = shown === shells.length ? all : `${shown} of ${all}`;
  nothing.hidden = shown > 0 || shells.length === 0;
  if (limits) limits.hidden = threshold.value === "";
}

function turn(to) {
  turned = to;
  sortRows();
}

function visibleShells() {
  return shells.filter((shell) => !shell.hidden);
}

filter.addEventListener("input", filterRows);
order.addEventListener("change", () => turn(false));
first.addEventListener("click", () => turn(false));
last.addEventListener("click", () => turn(true));
if (threshold) {
  for (const control of [threshold, relation, bound]) control.addEventListener("input", filterRows);
}
sortRows();
filterRows();
