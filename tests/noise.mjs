// The random numbers of site/poem/sampling.js. Prints each case of noise.json with its results.
import { readFileSync } from "node:fs";
import { absorb, exponential, textKey } from "../site/poem/sampling.js";

const cases = JSON.parse(readFileSync(new URL("noise.json", import.meta.url)));
for (const one of cases) {
  const key = absorb(textKey(one.seed, one.candidate, one.prompt), one.step);
  one.words = one.tokens.map((token) => absorb(key, token));
  one.exponential = one.tokens.map((token) => exponential(key, token));
}
console.log(JSON.stringify(cases));
