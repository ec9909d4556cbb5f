// The modules of site/poem for the tests: reads { name, given } from stdin, prints what that function returns.
import { readFileSync } from "node:fs";
import { Writer, wordingOf } from "../site/poem/generation.js";
import { Prosody, isWellFormed, toneSigns } from "../site/poem/prosody.js";
import { Repetition, drawToken } from "../site/poem/sampling.js";
import { TitleReader } from "../site/poem/titles.js";

const functions = {
  draws: ({ rows, keys, settings }) => rows.map((row, i) => drawToken(Float32Array.from(row), keys[i], settings)),

  // The tokens that may not follow after each token of a text, and the penalties of the others.
  penalties({ tokens, size, banned, lineEnds, penalty }) {
    const repetition = new Repetition(size, banned, lineEnds);
    return tokens.map((token) => {
      repetition.add(token, penalty);
      return [...repetition.penalize(new Float32Array(size))].map((logit) => (Number.isFinite(logit) ? logit : null));
    });
  },

  scans({ groups, texts }) {
    const prosody = new Prosody(groups);
    return texts.map((text) => {
      const scansion = prosody.scan(text);
      return { ...scansion, signs: [...toneSigns([...text], scansion, prosody)], wellFormed: isWellFormed(text) };
    });
  },

  titles({ tables, special, known, typed }) {
    const reader = new TitleReader(tables, special, (character) => known.includes(character));
    return typed.map((one) => reader.read(one));
  },

  wording: ({ rows, form, rhyme, acrostic }) => wordingOf(rows, form, rhyme, acrostic),

  // Poems by a model in `folder`; `runtime` is the folder of onnxruntime-web.
  async poems({ folder, runtime, wording, tasks }) {
    const ort = await import(`${runtime}/ort.wasm.min.mjs`);
    ort.env.wasm.numThreads = 1;
    const json = (name) => JSON.parse(readFileSync(`${folder}/${name}.json`));
    const model = new Uint8Array(readFileSync(`${folder}/model.onnx`));
    const writer = await Writer.open(ort, model, json("vocabulary"), json("generation"));
    const poems = [];
    for (const [title, seed] of tasks) {
      const poem = writer.write(writer.promptIds(title, wording), seed);
      let text = "";
      let step = await poem.next();
      for (; !step.done; step = await poem.next()) text += step.value;
      poems.push({ text, reason: step.value });
    }
    return poems;
  },
};

const { name, given } = JSON.parse(readFileSync(0));
console.log(JSON.stringify(await functions[name](given)));
