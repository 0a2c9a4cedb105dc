// The embedded manifest, how numbers are taken from it and written, and a helper to make elements.
const data = JSON.parse(document.getElementById("page-data").textContent);
const columnOf = new Map(data.columns.map((column, index) => [column.label, index]));
const BEFORE = columnOf.get(data.before);
const AFTER = columnOf.get(data.after);
const TARGET = columnOf.get(data.target);

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
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

// A number of the manifest, where infinity is a word; undefined if there is none.
function number(value) {
  if (typeof value !== "string") return value;
  return { inf: Infinity, "-inf": -Infinity }[value];
}

function scoreOf(row, column, metric) {
  const scores = row.scores[data.columns[column].label];
  return scores === undefined ? undefined : number(scores[data.metrics[metric].key]);
}

// A score minus that of the input; undefined if one is missing or both are infinite.
function changeOf(row, column, metric) {
  if (BEFORE === undefined || column === BEFORE) return undefined;
  const [before, after] = [scoreOf(row, BEFORE, metric), scoreOf(row, column, metric)];
  if (before === undefined || after === undefined || before === after) return before === after && before !== undefined ? 0 : undefined;
  return after - before;
}

function outputsOf(row) {
  return data.columns.flatMap((column, index) => (index !== BEFORE && row.scores[column.label] ? [index] : []));
}

// How far apart the outputs of several runs are.
function rangeOf(row, metric) {
  const values = outputsOf(row).map((column) => scoreOf(row, column, metric));
  if (values.length < 2 || values.includes(undefined)) return undefined;
  const range = Math.max(...values) - Math.min(...values);
  return Number.isNaN(range) ? 0 : range;
}

// What is named by a choice such as "value:1:0": kind, column, metric.
function measure(row, choice) {
  const [kind, column, metric] = choice.split(":");
  if (kind === "change") return changeOf(row, Number(column), Number(metric));
  if (kind === "range") return rangeOf(row, Number(metric));
  return scoreOf(row, Number(column), Number(metric));
}

function written(value, digits, signed) {
  const text = Math.abs(value) === Infinity ? "∞" : Math.abs(value).toFixed(digits);
  const zero = /^0(\.0*)?$/.test(text);
  return (value < 0 && !zero ? "−" : signed ? "+" : "") + text;
}

function chip(metric, change) {
  const text = written(change, metric.digits, true);
  const same = /^\+0(\.0*)?$/.test(text);
  const verdict = same ? "same" : change > 0 === metric.higher_is_better ? "better" : "worse";
  const made = element("span", `change ${verdict}`, text);
  made.title = same ? "unchanged" : `${verdict} than the ${data.columns[BEFORE].heading}`;
  return made;
}

// The numbers of one picture: name, value and change of each metric.
function scoreList(row, column) {
  const list = element("dl", "scores");
  const outputs = outputsOf(row);
  data.metrics.forEach(function (metric, index) {
    const value = scoreOf(row, column, index);
    if (value === undefined) return;
    const name = element("dt", "", metric.heading);
    name.title = metric.protocol;
    const unit = metric.unit ? [element("span", "unit", ` ${metric.unit}`)] : [];
    const shown = element("dd", "", element("span", "value", written(value, metric.digits)), ...unit);
    const rivals = outputs.map((other) => scoreOf(row, other, index)).filter((other) => other !== undefined);
    const best = metric.higher_is_better ? Math.max(...rivals) : Math.min(...rivals);
    if (rivals.length > 1 && column !== BEFORE && value === best) shown.firstChild.classList.add("best");
    const change = changeOf(row, column, index);
    if (change !== undefined) shown.append(" ", chip(metric, change));
    list.append(element("div", "", name, shown));
  });
  return list;
}

function headingParts(column) {
  const parts = [element("span", "words", column.heading), " ", element("code", "", column.label)];
  if (!column.paired) {
    const badge = element("span", "badge", "unpaired");
    badge.title = "Another scene than the input: not comparable pixel by pixel";
    parts.push(" ", badge);
  }
  return parts;
}

function addressOf(row, column) {
  return row.images[data.columns[column].label];
}

function sizeOf(row, column) {
  return row.sizes[data.columns[column].label];
}
