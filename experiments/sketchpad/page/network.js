// The network, from its packed weights to its heads, in float32 as JAX computes it.

function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let place = 0; place < bytes.length; place++) bytes[place] = letters.charCodeAt(place);
  return bytes;
}

function floatsOf(text) {
  return new Float32Array(bytesOf(text).buffer);
}

/** The values of a packed tensor; those in int8 have a scale for each output, their last axis. */
function unpackTensor(packed) {
  if (packed.scales === null) return floatsOf(packed.values);
  const integers = new Int8Array(bytesOf(packed.values).buffer);
  const scales = floatsOf(packed.scales);
  return Float32Array.from(integers, (integer, place) => integer * scales[place % scales.length]);
}

function unpackLayer(packed) {
  const { kernel, bias, padding = 0 } = packed;
  return { shape: kernel.shape, kernel: unpackTensor(kernel), bias: floatsOf(bias), padding };
}

function unpackNetwork(packed) {
  return {
    blocks: packed.blocks.map(unpackLayer),
    dense: unpackLayer(packed.dense),
    heads: { logits: unpackLayer(packed.logits), priorLogits: unpackLayer(packed.prior_logits) },
  };
}

/** The heads of one image: 28 x 28 grey levels from 0 to 255, row by row. */
function headsOf(network, image, side) {
  let activations = {
    height: side,
    width: side,
    channels: 1,
    values: Float32Array.from(image, (level) => level / 255),
  };
  for (const block of network.blocks) activations = poolRelu(convolve(activations, block));
  const features = dense(activations.values, network.dense).map((value) => Math.max(value, 0));
  return {
    logits: dense(features, network.heads.logits),
    priorLogits: dense(features, network.heads.priorLogits),
  };
}

/** A convolution. Most inputs are 0, ground or cut off by a relu, and cost next to nothing. */
function convolve(input, layer) {
  const [rows, columns, channels, outputs] = layer.shape;
  const { kernel, bias, padding } = layer;
  const height = input.height + 2 * padding - rows + 1;
  const width = input.width + 2 * padding - columns + 1;
  const values = new Float32Array(height * width * outputs);
  for (let start = 0; start < values.length; start += outputs) values.set(bias, start);
  let place = 0;
  for (let y = 0; y < input.height; y++) {
    for (let x = 0; x < input.width; x++) {
      for (let channel = 0; channel < channels; channel++) {
        const value = input.values[place++];
        if (value === 0) continue;
        for (let row = 0; row < rows; row++) {
          const down = y + padding - row;
          if (down < 0 || down >= height) continue;
          for (let column = 0; column < columns; column++) {
            const right = x + padding - column;
            if (right < 0 || right >= width) continue;
            const to = (down * width + right) * outputs;
            const from = ((row * columns + column) * channels + channel) * outputs;
            for (let output = 0; output < outputs; output++) {
              values[to + output] += value * kernel[from + output];
            }
          }
        }
      }
    }
  }
  return { height, width, channels: outputs, values };
}

/** 2 x 2 max-pooling and relu; the last of an odd number of rows or columns is left out. */
function poolRelu(input) {
  const { channels, values } = input;
  const height = input.height >> 1;
  const width = input.width >> 1;
  const pooled = new Float32Array(height * width * channels);
  for (let y = 0; y < 2 * height; y++) {
    for (let x = 0; x < 2 * width; x++) {
      const from = (y * input.width + x) * channels;
      const to = ((y >> 1) * width + (x >> 1)) * channels;
      for (let channel = 0; channel < channels; channel++) {
        const value = values[from + channel];
        if (value > pooled[to + channel]) pooled[to + channel] = value;
      }
    }
  }
  return { height, width, channels, values: pooled };
}

function dense(input, layer) {
  const outputs = layer.shape[1];
  const { kernel } = layer;
  const values = layer.bias.slice();
  for (let place = 0; place < input.length; place++) {
    const value = input[place];
    if (value === 0) continue;
    const from = place * outputs;
    for (let output = 0; output < outputs; output++) {
      values[output] += value * kernel[from + output];
    }
  }
  return values;
}
