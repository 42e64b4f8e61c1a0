// The page: a drawing becomes an image, an image heads, and heads all that is shown.

const find = (id) => document.getElementById(id);
const model = JSON.parse(find("model").textContent);
const network = unpackNetwork(model.network);
const { names, form } = model;
const dropped = new Set();
let heads = null;

const chart = makeChart(find("classes"), names, (k) => {
  if (!dropped.delete(k)) dropped.add(k);
  refresh();
  announce(dropped.has(k) ? `${names[k]} is dropped.` : `${names[k]} is back.`);
});
const masks = makeMasks(
  { body: find("masks"), play: find("play"), one: find("one"), count: find("count") },
  names,
  model,
  (mean, countInWords) => {
    find("mean").textContent = `Mean of ${mean ? countInWords : "masks"}`;
    tell("mean", mean);
  },
);
const drawing = makeDrawing(find("pad"), {
  pen: form.shown_pen,
  lines: form.lines,
  changed(strokes) {
    const image = imageOf(strokes, form);
    showPixels(find("seen"), image, form.side);
    heads = image && headsOf(network, image, form.side);
    refresh();
  },
  settled: announce,
});

function refresh() {
  const left = heads && withoutDropped(heads, dropped);
  const predictions = left && predictionsOf(left);
  const classes = classesToShow(names.length, predictions, dropped);
  chart(classes, predictions, dropped);
  say(predictions);
  const nothingIsLeft = dropped.size === names.length;
  masks.start(nothingIsLeft ? null : left, classes);
  find("restore").hidden = dropped.size === 0;
  find("shown").textContent =
    classes.length < names.length
      ? `The ${classes.length} of ${names.length} classes that matter most here.`
      : "";
}

/** Writes what DropMax and the class logits alone say, DropMax's answer in large letters. */
function say(predictions) {
  const said = headline(predictions);
  find("headline").textContent = said;
  find("headline").classList.toggle("short", said.length < 3);
  find("caption").hidden = predictions === null;
  tell("dropmax", predictions && predictions.dropmax);
  tell("logits", predictions && predictions.logits);
}

function headline(predictions) {
  if (dropped.size === names.length) return "All classes are dropped";
  if (predictions === null) return `Draw a ${model.subject}`;
  const [best] = largest(predictions.dropmax, 1);
  return isSure(predictions.dropmax) ? names[best] : "Not sure";
}

function isSure(probs) {
  return Math.max(...probs) >= 0.5;
}

/** Fills the row of a prediction: its answer and its entropy. */
function tell(kind, probs) {
  const [answer, nats] = document.querySelectorAll(`.says .${kind} ~ td`);
  const isThere = probs !== null && dropped.size < names.length;
  answer.textContent = isThere ? inWords(probs) : "–";
  nats.textContent = isThere ? `${entropyOf(probs).toFixed(2)} nats` : "–";
}

function inWords(probs) {
  const [best, next] = largest(probs, 2);
  if (!isSure(probs)) return `${names[best]} or ${names[next]}?`;
  return `${names[best]} (${percent(probs[best])})`;
}

/** Reads a remark and the answer to those who cannot see them. */
function announce(remark) {
  const said = [`${find("headline").textContent}.`];
  for (const row of document.querySelectorAll(".says tbody tr:not(:has(.mean))")) {
    const [method, answer, nats] = row.children;
    said.push(`${method.textContent}: ${answer.textContent}, entropy ${nats.textContent}.`);
  }
  find("live").textContent = [remark, ...(heads === null ? [] : said)].join(" ").trim();
}

find("undo").addEventListener("click", drawing.undo);
find("clear").addEventListener("click", drawing.clear);
find("restore").addEventListener("click", () => {
  dropped.clear();
  refresh();
  announce("All classes are back.");
  find("pad").focus();
});
showPixels(find("seen"), null, form.side);
refresh();
// Loops are slow until the browser has compiled them, which the first stroke should not wait for.
for (let run = 0; run < 10; run++) {
  headsOf(network, imageOf([[[0.3, 0.3], [0.7, 0.4], [0.4, 0.7]]], form), form.side);
}
