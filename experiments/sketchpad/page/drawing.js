// The drawing area: strokes by mouse, finger, pen or keyboard.

const GRID = 16; // The keyboard's cursor moves from square to square.
const ARROWS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

/**
 * Makes a canvas a drawing area.
 *
 * `pen` is the width of the pen, in sides of the area, and `lines` are the heights of guide lines.
 * `changed(strokes)` is called with each new point, and `settled(remark)` when a stroke or another
 * action is over.
 */
function makeDrawing(canvas, { pen, lines, changed, settled }) {
  let strokes = [];
  let pointer = null;
  let penIsDown = false;
  let cursor = [GRID / 2, GRID / 4];
  let cursorIsShown = false;

  function show() {
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    context.setTransform(side, 0, 0, side, 0, 0);
    context.clearRect(0, 0, 1, 1);
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = style.getPropertyValue("--line");
    context.lineWidth = 0.004;
    for (const height of lines) trace(context, [[0, height], [1, height]]);
    context.strokeStyle = style.color;
    context.lineWidth = pen;
    for (const stroke of strokes) trace(context, stroke);
    if (cursorIsShown) showCursor(context, style);
  }

  function showCursor(context, style) {
    const [x, y] = atCursor();
    context.beginPath();
    context.arc(x, y, pen / 2 + 0.012, 0, 2 * Math.PI);
    context.lineWidth = 0.012;
    context.strokeStyle = style.getPropertyValue("--focus");
    context.setLineDash(penIsDown ? [] : [0.02, 0.02]);
    context.stroke();
    context.setLineDash([]);
  }

  function change() {
    show();
    changed(strokes);
  }

  function atCursor() {
    return cursor.map((place) => (place + 0.5) / GRID);
  }

  function atPointer(event) {
    const { left, top, width } = canvas.getBoundingClientRect();
    const within = (place) => Math.min(1, Math.max(0, place / width));
    return [within(event.clientX - left), within(event.clientY - top)];
  }

  function liftPen() {
    pointer = null;
    penIsDown = false;
  }

  function undo() {
    liftPen();
    strokes.pop();
    change();
    settled("Last stroke undone.");
  }

  function clear() {
    liftPen();
    strokes = [];
    change();
    settled("Cleared.");
  }

  function togglePen() {
    penIsDown = !penIsDown;
    if (penIsDown) strokes.push([atCursor()]);
    change();
    settled(penIsDown ? "Pen down." : "Pen up.");
  }

  function moveCursor([right, down]) {
    cursor = [cursor[0] + right, cursor[1] + down].map((place) =>
      Math.min(GRID - 1, Math.max(0, place)),
    );
    if (!penIsDown) return show();
    strokes.at(-1).push(atCursor());
    change();
  }

  /** What a key does; nothing for the keys that are the browser's own. */
  function actionOf(event) {
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && key === "z") return undo;
    if (event.ctrlKey || event.metaKey || event.altKey) return null;
    if (event.key in ARROWS) return () => moveCursor(ARROWS[event.key]);
    if (key === " " || key === "enter") return togglePen;
    if (key === "escape" && penIsDown) return togglePen;
    if (key === "u" || key === "backspace") return undo;
    if (key === "c" || key === "delete") return clear;
    return null;
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || pointer !== null) return;
    liftPen();
    cursorIsShown = false;
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    strokes.push([atPointer(event)]);
    change();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    strokes.at(-1).push(...(events.length ? events : [event]).map(atPointer));
    change();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      if (event.pointerId !== pointer) return;
      pointer = null;
      settled("");
    });
  }
  canvas.addEventListener("keydown", (event) => {
    const action = actionOf(event);
    if (action === null) return;
    event.preventDefault();
    cursorIsShown = true;
    action();
  });
  canvas.addEventListener("blur", () => {
    cursorIsShown = false;
    if (penIsDown) liftPen();
    show();
  });
  canvas.addEventListener("focus", () => {
    cursorIsShown = canvas.matches(":focus-visible");
    show();
  });
  new ResizeObserver(show).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  return { undo, clear };
}

function trace(context, stroke) {
  context.beginPath();
  context.moveTo(...stroke[0]);
  // A line to where it starts is a dot.
  for (const point of stroke) context.lineTo(...point);
  context.stroke();
}

/** Shows grey levels, light on dark, as the network is given them. */
function showPixels(canvas, image, side) {
  const pixels = new ImageData(side, side);
  pixels.data.fill(255);
  for (let place = 0; place < side * side; place++) {
    pixels.data.fill(image === null ? 0 : image[place], 4 * place, 4 * place + 3);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}
