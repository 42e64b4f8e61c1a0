// What `dropmax_jax` does with the heads at test time: the softmax, the mean mask, sampled masks.
// A class whose logit is minus infinity is not there.

const EPSILON = 1e-20;

/** exp(logit) over the sum of all; zeros if no class is there. */
function softmax(logits) {
  const most = Math.max(...logits);
  if (most === -Infinity) return Array.from(logits, () => 0);
  const exponentials = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = exponentials.reduce((total, value) => total + value, 0);
  return exponentials.map((value) => value / sum);
}

function logSigmoid(value) {
  return Math.min(value, 0) - Math.log1p(Math.exp(-Math.abs(value)));
}

/** The softmax of the class logits under a mask, which is given by its log. */
function maskedSoftmax(logits, logMask) {
  const masked = (logit, k) => logit + Math.log(Math.exp(logMask[k]) + EPSILON);
  return softmax(Array.from(logits, masked));
}

/** The log of a relaxed Bernoulli mask, a function of logistic noise. */
function concreteLogMask(priorLogits, noise, temperature) {
  return Array.from(priorLogits, (logit, k) => logSigmoid((logit + noise[k]) / temperature));
}

function logisticNoise(count) {
  return Array.from({ length: count }, () => {
    const uniform = Math.random() + 2 ** -54; // Math.random() can be 0.
    return Math.log(uniform) - Math.log1p(-uniform);
  });
}

/** In nats. */
function entropyOf(probs) {
  return probs.reduce((sum, p) => sum - (p > 0 ? p * Math.log(p) : 0), 0);
}

/** The heads without the classes that were dropped by hand. */
function withoutDropped(heads, dropped) {
  const left = (logit, k) => (dropped.has(k) ? -Infinity : logit);
  return { logits: Float32Array.from(heads.logits, left), priorLogits: heads.priorLogits };
}

/** The predictions of the class logits alone and of DropMax, and the retain probabilities. */
function predictionsOf(heads) {
  const logMean = Array.from(heads.priorLogits, logSigmoid);
  return {
    logits: softmax(heads.logits),
    retained: logMean.map(Math.exp),
    dropmax: maskedSoftmax(heads.logits, logMean),
  };
}

/** One sampled mask, from 0 to 1 for each class, and the prediction under it. */
function sampleMask(heads, temperature) {
  const noise = logisticNoise(heads.logits.length);
  const logMask = concreteLogMask(heads.priorLogits, noise, temperature);
  return { mask: logMask.map(Math.exp), probs: maskedSoftmax(heads.logits, logMask) };
}
