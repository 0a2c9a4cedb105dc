// Sorting and filtering the rows of a result page.
(function () {
  "use strict";

  const data = JSON.parse(document.getElementById("page-data").textContent);
  const list = document.querySelector(".results");
  const rows = Array.from(list.children);
  const filter = document.getElementById("filter");
  const order = document.getElementById("order");
  const direction = document.getElementById("direction");
  const count = document.getElementById("count");
  const nothing = document.querySelector(".nothing");
  const byName = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  let ascending = true;

  function dataOf(row) {
    return data.rows[Number(row.dataset.row)];
  }

  function compare(first, second) {
    const [a, b] = [dataOf(first), dataOf(second)];
    const turn = ascending ? 1 : -1;
    const names = byName.compare(a.name, b.name);
    if (order.value === "name") return turn * names;
    const [x, y] = [a.scores[order.value], b.scores[order.value]];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined) || names;
    const [left, right] = [Number(x), Number(y)];
    return left === right ? names : turn * (left < right ? -1 : 1);
  }

  function sort() {
    list.append(...rows.sort(compare));
    direction.textContent = ascending ? "↑" : "↓";
    const text = order.value === "name";
    direction.title = ascending ? (text ? "A to Z" : "Smallest first") : text ? "Z to A" : "Largest first";
  }

  function sift() {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !dataOf(row).name.toLowerCase().includes(wanted);
      shown += row.hidden ? 0 : 1;
    }
    const all = rows.length === 1 ? "1 image" : `${rows.length} images`;
    count.textContent = shown === rows.length ? all : `${shown} of ${all}`;
    nothing.hidden = shown > 0 || rows.length === 0;
  }

  filter.addEventListener("input", sift);
  order.addEventListener("change", sort);
  direction.addEventListener("click", function () {
    ascending = !ascending;
    sort();
  });
  sort();
  sift();
})();
