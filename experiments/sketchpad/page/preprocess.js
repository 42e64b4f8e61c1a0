// From strokes to the image that the network sees, in the form of the images it was trained on.
// A stroke is a list of points [x, y]; the drawing area is the square from 0 to 1.

const FINER = 4; // Strokes are drawn this many times as large as they will be.

/** The image, 28 x 28 grey levels from 0 to 255; null if there is too little ink. */
function imageOf(strokes, form) {
  const box = boundsOf(strokes);
  if (Math.max(box.width, box.height) < form.least) return null;
  return form.box === undefined ? inGlyphForm(strokes, box, form) : inMnistForm(strokes, box, form);
}

/** As MNIST's: scaled to fit into a box and centred by its mass. */
function inMnistForm(strokes, box, form) {
  return centred(scaledToBox(inkFor(strokes, box, form), form.box), form.side);
}

/** Strokes with a pen that will be as wide in the box, whatever the size of the drawing. */
function inkFor(strokes, box, form) {
  const scale = (FINER * (form.box - form.pen)) / Math.max(box.width, box.height);
  const margin = (FINER * form.pen) / 2 + 1;
  const ink = rasterise(strokes, {
    width: Math.ceil(box.width * scale + 2 * margin),
    height: Math.ceil(box.height * scale + 2 * margin),
    scale,
    left: margin - box.left * scale,
    top: margin - box.top * scale,
    pen: FINER * form.pen,
  });
  return cropped(ink);
}

/** As `glyphs`: in the size in which it is drawn, with its box in the middle. */
function inGlyphForm(strokes, box, form) {
  const scale = (form.capital - form.pen) / (form.baseline - form.top);
  const extent = Math.max(box.width, box.height) * scale + form.pen;
  const fit = FINER * Math.min(1, form.extent / extent);
  const side = FINER * form.side;
  const fine = rasterise(strokes, {
    width: side,
    height: side,
    scale: scale * fit,
    left: side / 2 - (box.left + box.width / 2) * scale * fit,
    top: side / 2 - (box.top + box.height / 2) * scale * fit,
    pen: form.pen * fit,
  });
  return averaged(fine, form.side);
}

function boundsOf(strokes) {
  const points = strokes.flat();
  const [left, right] = rangeOf(points.map(([x]) => x));
  const [top, bottom] = rangeOf(points.map(([, y]) => y));
  return { left, top, width: right - left, height: bottom - top };
}

function rangeOf(values) {
  return values.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [
    Infinity,
    -Infinity,
  ]);
}

/** Draws strokes with a round pen; the ink of a pixel, from 0 to 1, fades over one at the edge. */
function rasterise(strokes, { width, height, scale, left, top, pen }) {
  const values = new Float32Array(width * height);
  const reach = pen / 2 + 0.5;
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => [x * scale + left, y * scale + top]);
    for (let end = 0; end < points.length; end++) {
      const [x0, y0] = points[Math.max(end - 1, 0)];
      const [x1, y1] = points[end];
      const [dx, dy] = [x1 - x0, y1 - y0];
      const square = dx * dx + dy * dy || 1;
      const lastRow = Math.min(height - 1, Math.floor(Math.max(y0, y1) + reach));
      const lastColumn = Math.min(width - 1, Math.floor(Math.max(x0, x1) + reach));
      for (let row = Math.max(0, Math.floor(Math.min(y0, y1) - reach)); row <= lastRow; row++) {
        let column = Math.max(0, Math.floor(Math.min(x0, x1) - reach));
        for (; column <= lastColumn; column++) {
          const [px, py] = [column + 0.5 - x0, row + 0.5 - y0];
          const along = Math.min(1, Math.max(0, (px * dx + py * dy) / square));
          const ink = reach - Math.hypot(px - along * dx, py - along * dy);
          const place = row * width + column;
          if (ink > values[place]) values[place] = Math.min(1, ink);
        }
      }
    }
  }
  return { width, height, values };
}

/** The rows and columns that have ink. */
function cropped({ width, values }) {
  const inked = Array.from(values.keys()).filter((place) => values[place] > 0);
  const [top, bottom] = rangeOf(inked.map((place) => Math.floor(place / width)));
  const [left, right] = rangeOf(inked.map((place) => place % width));
  const rows = Array.from({ length: bottom - top + 1 }, (_, row) => {
    const start = (top + row) * width;
    return values.subarray(start + left, start + right + 1);
  });
  return {
    width: right - left + 1,
    height: rows.length,
    values: Float32Array.from(rows.flatMap((row) => Array.from(row))),
  };
}

/** Scales an image so that its longer side is that of the box. */
function scaledToBox(image, box) {
  const scale = box / Math.max(image.width, image.height);
  const [width, height] = [image.width, image.height].map((side) =>
    Math.max(1, roundHalfEven(side * scale)),
  );
  // Scaling works along columns, so the image is turned over for its width.
  return scaledDown(transposed(scaledDown(transposed(image), width)), height);
}

/** Pillow's bilinear filter along columns, which averages where it makes an image smaller. */
function scaledDown({ width, height, values }, newHeight) {
  const scale = height / newHeight;
  const reach = Math.max(scale, 1);
  const scaled = new Float32Array(width * newHeight);
  for (let row = 0; row < newHeight; row++) {
    const centre = (row + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(height, Math.trunc(centre + reach + 0.5));
    const weights = [];
    for (let from = first; from < end; from++) {
      weights.push(Math.max(0, 1 - Math.abs(from + 0.5 - centre) / reach));
    }
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let column = 0; column < width; column++) {
      let sum = 0;
      weights.forEach((weight, place) => {
        sum += weight * values[(first + place) * width + column];
      });
      scaled[row * width + column] = sum / total;
    }
  }
  return { width, height: newHeight, values: scaled };
}

function transposed({ width, height, values }) {
  const turned = Float32Array.from(values, (_, place) => {
    const [row, column] = [Math.floor(place / height), place % height];
    return values[column * width + row];
  });
  return { width: height, height: width, values: turned };
}

/** Puts a figure into a square image, with its centre of mass in the middle. */
function centred({ width, height, values }, side) {
  let [mass, down, right, most] = [0, 0, 0, 0];
  values.forEach((value, place) => {
    mass += value;
    down += value * Math.floor(place / width);
    right += value * (place % width);
    most = Math.max(most, value);
  });
  const placed = (moment, extent) =>
    Math.min(side - extent, Math.max(0, roundHalfEven(side / 2 - moment / mass)));
  const [top, left] = [placed(down, height), placed(right, width)];
  const image = new Uint8Array(side * side);
  values.forEach((value, place) => {
    const [row, column] = [top + Math.floor(place / width), left + (place % width)];
    image[row * side + column] = roundHalfEven((255 * value) / most);
  });
  return image;
}

/** The means of blocks, as a square image. */
function averaged({ width, values }, side) {
  const block = width / side;
  const sums = new Float64Array(side * side);
  values.forEach((value, place) => {
    const [row, column] = [Math.floor(place / width), place % width];
    sums[Math.floor(row / block) * side + Math.floor(column / block)] += value;
  });
  return Uint8Array.from(sums, (sum) => Math.round((255 * sum) / block ** 2));
}

/** Rounds as Python and NumPy do. */
function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
