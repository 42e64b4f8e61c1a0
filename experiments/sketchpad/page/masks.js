// Masks sampled one by one, and the mean of the predictions under them.

const MOST_MASKS = 200;
const MOST_COLUMNS = 24;
const MASK_MILLISECONDS = 120;

/**
 * Samples masks for the heads that `start` is given, on its own unless motion is unwelcome.
 *
 * `parts` holds the table's body, the two buttons and the place of the count. `averaged(probs,
 * count)` is called with each new mean and the number of masks in words.
 */
function makeMasks(parts, names, { temperature }, averaged) {
  let wanted = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  let timer = null;
  let heads = null;
  let classes = [];
  let columns = [];
  let sums = [];
  let count = 0;
  const rows = makeRows(parts.body, (k) => {
    const head = make("th", "", [names[k]]);
    head.scope = "row";
    const cells = make("div", "cells");
    cells.ariaHidden = true;
    const bar = makeBar("dropmax");
    return { element: make("tr", "", [head, make("td", "", [cells]), bar.cell]), cells, bar };
  });

  function start(newHeads, newClasses) {
    heads = newHeads;
    classes = newClasses;
    reset();
    schedule();
  }

  function reset() {
    columns = [];
    count = 0;
    sums = names.map(() => 0);
    show();
  }

  function sample() {
    const { mask, probs } = sampleMask(heads, temperature);
    columns = [...columns, { mask, chosen: largest(probs, 1)[0] }].slice(-MOST_COLUMNS);
    sums = sums.map((sum, k) => sum + probs[k]);
    count++;
    show();
  }

  function isRunning() {
    return wanted && heads !== null && count < MOST_MASKS;
  }

  function schedule() {
    clearTimeout(timer);
    timer = null;
    if (isRunning()) timer = setTimeout(tick, MASK_MILLISECONDS);
    parts.play.textContent = isRunning() ? "Pause" : count < MOST_MASKS ? "Play" : "Again";
    parts.play.disabled = parts.one.disabled = heads === null;
  }

  function tick() {
    sample();
    schedule();
  }

  function show() {
    const mean = count ? sums.map((sum) => sum / count) : null;
    rows(classes).forEach(({ cells, bar }, place) => {
      const k = classes[place];
      cells.replaceChildren(...columns.map((column) => makeCell(column, k)));
      bar.show(mean && mean[k]);
    });
    const countInWords = count === 1 ? "1 mask" : `${count} masks`;
    parts.count.textContent = countInWords;
    averaged(mean, countInWords);
  }

  function makeCell({ mask, chosen }, k) {
    const isThere = heads.logits[k] > -Infinity;
    const cell = make("span", k === chosen ? "cell kept chosen" : "cell kept");
    cell.style.setProperty("--kept", isThere ? mask[k] : 0);
    return cell;
  }

  parts.play.addEventListener("click", () => {
    wanted = !isRunning();
    if (count === MOST_MASKS) reset();
    schedule();
  });
  parts.one.addEventListener("click", () => {
    wanted = false;
    if (count === MOST_MASKS) reset();
    tick();
  });
  return { start };
}
