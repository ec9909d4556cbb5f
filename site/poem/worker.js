// The model in a thread of its own, so that the page stays quick. A message names a method of `methods`; the answer has
// the same id, and a result or an error.

import * as ort from "./ort/ort.wasm.min.mjs";
import { Writer } from "./generation.js";
import { TitleReader } from "./titles.js";

ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send

const DRAFTS = 3; // poems that the worker writes for practice
const loaded = {}; // the large files: how many bytes have come, and how many there are
let told = 0; // how many percent the page knows of
const opening = open();
let reader, writer, poem;

async function json(name) {
  return (await fetch(`model/${name}.json`)).json();
}

// A large file, while the page is told how much of it has come.
async function bytes(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  const file = (loaded[path] = { done: 0, total: Number(response.headers.get("Content-Length")) });
  const chunks = [];
  const stream = response.body.getReader();
  for (let part = await stream.read(); !part.done; part = await stream.read()) {
    chunks.push(part.value);
    file.done += part.value.length;
    report();
  }
  const content = new Uint8Array(file.done);
  let place = 0;
  for (const chunk of chunks) {
    content.set(chunk, place);
    place += chunk.length;
  }
  return content;
}

function report() {
  const sum = (what) => Object.values(loaded).reduce((total, file) => total + file[what], 0);
  const percent = Math.round((100 * sum("done")) / sum("total"));
  if (percent !== told) postMessage({ state: "opening", values: { percent } });
  told = percent;
}

async function open() {
  const files = ["vocabulary", "generation", "titles"].map(json);
  const [wasm, model] = await Promise.all([bytes("ort/ort-wasm-simd-threaded.wasm"), bytes("model/model.onnx")]);
  const [vocabulary, limits, titles] = await Promise.all(files);
  ort.env.wasm.wasmBinary = wasm;
  writer = await Writer.open(ort, model, vocabulary, limits);
  reader = new TitleReader(titles, Object.keys(vocabulary.special_tokens), (character) => writer.knows(character));
}

// The browser makes code fast only after it has run for a while. So the worker writes poems that nobody sees, until a
// visitor asks for one.
async function practise() {
  for (let seed = 0; seed < DRAFTS; seed++)
    for await (const _ of writer.write(writer.promptIds("", ""), seed)) {
      await new Promise((resolve) => setTimeout(resolve)); // let a request in
      if (poem) return;
    }
}

const methods = {
  // Begin a poem, in place of the one before. `wording` is the instruction, with {} in place of the acrostic.
  begin({ typed, wording, acrostic, seed }) {
    const read = reader.read(typed);
    const [heads] = acrostic ? reader.toTraditional(acrostic) : [""];
    if (read.title) poem = writer.write(writer.promptIds(read.title, wording.replace("{}", () => heads)), seed);
    return read;
  },

  // The next character, or how the poem ended: { value, done }.
  next() {
    return poem.next();
  },
};

onmessage = async ({ data: { id, method, given } }) => {
  try {
    await opening;
    postMessage({ id, result: await methods[method](given) });
  } catch (error) {
    postMessage({ id, error: String(error) });
  }
};
opening.then(
  () => {
    postMessage({ state: "ready", values: {} });
    practise().catch(console.warn);
  },
  (error) => postMessage({ state: "failed", values: { reason: String(error) } }),
);
