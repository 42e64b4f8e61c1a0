// Tables with a row for each class, or for those that matter where there are many.

const MOST_ROWS = 12;
const MOST_PROBABLE = 8;

function make(tag, name = "", children = []) {
  const element = document.createElement(tag);
  element.className = name;
  element.append(...children);
  return element;
}

function percent(p) {
  if (p === null) return "";
  if (p > 0.99 && p < 1) return ">99\u00a0%";
  if (p < 0.01 && p > 0) return "<1\u00a0%";
  return `${Math.round(100 * p)}\u00a0%`;
}

/** The places of the largest values, largest first. */
function largest(values, count) {
  const places = Array.from(values.keys()).sort((one, other) => values[other] - values[one]);
  return places.slice(0, count);
}

/** The classes to show: of many, the most probable and the most retained, and those dropped. */
function classesToShow(numClasses, predictions, dropped) {
  const all = Array.from({ length: numClasses }, (_, k) => k);
  if (numClasses <= MOST_ROWS) return all;
  if (predictions === null) return all.slice(0, MOST_ROWS);
  const { dropmax, retained } = predictions;
  const shown = new Set(largest(dropmax, MOST_PROBABLE));
  for (const k of largest(retained, numClasses)) {
    if (shown.size === MOST_ROWS) break;
    if (!dropped.has(k)) shown.add(k);
  }
  const kept = [...shown].filter((k) => !dropped.has(k));
  return [...kept.sort((one, other) => dropmax[other] - dropmax[one]), ...dropped];
}

function makeBar(kind) {
  const fill = make("span", "fill");
  const value = make("span", "value");
  const bar = make("div", "bar", [make("span", "track", [fill]), value]);
  const show = (p) => {
    fill.style.width = `${100 * (p ?? 0)}%`;
    value.textContent = percent(p);
  };
  return { cell: make("td", kind, [bar]), show };
}

/** A table's body that keeps the row of each class, and shows some in an order. */
function makeRows(body, makeRow) {
  const rows = new Map();
  let order = "";
  return (classes) => {
    for (const k of classes) if (!rows.has(k)) rows.set(k, makeRow(k));
    const shown = classes.map((k) => rows.get(k));
    if (order !== classes.join()) {
      order = classes.join();
      const focused = document.activeElement;
      body.replaceChildren(...shown.map((row) => row.element));
      if (body.contains(focused)) focused.focus();
    }
    return shown;
  };
}

/** The bars of the predictions; `pressed(k)` is called when the button of a class is. */
function makeChart(body, names, pressed) {
  const kinds = ["logits", "retained", "dropmax"];
  const rows = makeRows(body, (k) => {
    const button = make("button", "class", [names[k]]);
    button.type = "button";
    button.title = button.ariaLabel = `Drop ${names[k]}`;
    button.addEventListener("click", () => pressed(k));
    const head = make("th", "", [button]);
    head.scope = "row";
    const bars = kinds.map(makeBar);
    const element = make("tr", "", [head, ...bars.map((bar) => bar.cell)]);
    return { element, button, bars };
  });
  return (classes, predictions, dropped) => {
    const best = predictions === null ? null : largest(predictions.dropmax, 1)[0];
    rows(classes).forEach(({ element, button, bars }, place) => {
      const k = classes[place];
      element.className = k === best && !dropped.has(k) ? "best" : "";
      button.ariaPressed = dropped.has(k);
      bars.forEach((bar, number) => {
        const there = predictions !== null && !dropped.has(k);
        bar.show(there ? predictions[kinds[number]][k] : null);
      });
    });
  };
}
