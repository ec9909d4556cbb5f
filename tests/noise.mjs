// The random numbers of course_lib/sampling.py in JavaScript. Prints each case of noise.json with its results.
import { readFileSync } from "node:fs";

export function absorb(key, number) {
  let h = ((key + 0x9e3779b9) ^ number) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b) >>> 0;
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35) >>> 0;
  return (h ^ (h >>> 16)) >>> 0;
}

export const textKey = (seed, candidate, prompt) => [seed, candidate, ...prompt].reduce(absorb, 0);
export const exponential = (key, token) => -Math.log((absorb(key, token) + 0.5) / 2 ** 32);

const cases = JSON.parse(readFileSync(new URL("noise.json", import.meta.url)));
for (const one of cases) {
  const key = absorb(textKey(one.seed, one.candidate, one.prompt), one.step);
  one.words = one.tokens.map((token) => absorb(key, token));
  one.exponential = one.tokens.map((token) => exponential(key, token));
}
console.log(JSON.stringify(cases));
