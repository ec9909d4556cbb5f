// From logits to the next token, as course_lib/sampling.py does it: the same numbers, so the same poems.
// Python computes in float32 where `Math.fround` and `Float32Array` stand here.

// A new key from a key and a number, all of them 32-bit words: the last step of MurmurHash3.
export function absorb(key, number) {
  let h = ((key + 0x9e3779b9) ^ number) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b) >>> 0;
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35) >>> 0;
  return (h ^ (h >>> 16)) >>> 0;
}

// The key of one text.
export const textKey = (seed, candidate, prompt) => [seed, candidate, ...prompt].reduce((key, n) => absorb(key, n), 0);

// A random number of the exponential distribution.
export const exponential = (key, number) => -Math.log((absorb(key, number) + 0.5) / 2 ** 32);

// The next token: each weight is divided by a random number, and the largest quotient wins, if it is inside top-p.
// Loops over the vocabulary are plain `for` loops: in a browser they are several times as fast as `map` and `reduce`.
export function drawToken(logits, key, { temperature, top_p }) {
  let largest = -Infinity;
  for (const logit of logits) if (logit > largest) largest = logit;
  const divisor = Math.fround(temperature);
  const weights = new Float32Array(logits.length);
  let total = 0;
  for (let token = 0; token < weights.length; token++) {
    weights[token] = Math.exp(Math.fround(Math.fround(logits[token] - largest) / divisor));
    total += weights[token];
  }
  if (!Number.isFinite(total)) throw new Error("the model's logits are not numbers");
  const least = ((1 - top_p) * total) / weights.length; // a token inside top-p weighs at least this much
  let racing = [];
  for (let token = 0; token < weights.length; token++) {
    const weight = weights[token];
    if (weight >= least) racing.push({ token, weight, speed: Math.fround(weight / exponential(key, token)) });
  }
  for (;;) {
    const winner = racing.reduce((best, one) => (one.speed > best.speed ? one : best));
    const likelier = racing.filter((one) => one.weight > winner.weight);
    const before = likelier.reduce((sum, one) => sum + one.weight, 0);
    if (top_p >= 1 || before < top_p * total) return winner.token;
    racing = likelier; // all that are no likelier than the winner are outside too
  }
}

// What a text must not say again, and the tokens that it may never say.
export class Repetition {
  constructor(vocabularySize, banned, lineEnds) {
    this.lineEnds = new Set(lineEnds);
    this.penalties = new Float32Array(vocabularySize);
    for (const token of banned) this.penalties[token] = Infinity;
    this.line = []; // the line that the text has begun
    this.said = new Map(); // a line's start -> its last tokens
  }

  // The logits, lowered for all tokens that the text should not say again.
  penalize(logits) {
    const lowered = new Float32Array(logits.length);
    for (let token = 0; token < lowered.length; token++) lowered[token] = logits[token] - this.penalties[token];
    for (const token of this.said.get(this.line.join()) ?? []) lowered[token] = -Infinity;
    return lowered;
  }

  // Remember one more token; its logit is lowered by `penalty` from now on.
  add(token, penalty) {
    if (!this.lineEnds.has(token)) {
      this.penalties[token] = Math.max(this.penalties[token], penalty);
      this.line.push(token);
    } else if (this.line.length) {
      const last = this.line.pop();
      const start = this.line.join();
      this.said.set(start, [...(this.said.get(start) ?? []), last]);
      this.line = [];
    }
  }
}
