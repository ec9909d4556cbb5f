// From a title to a poem, one character at a time, as course_lib/generation.py does it.
// course_lib/export.py writes the model and the tables. `ort` is onnxruntime-web.

import { Repetition, absorb, drawToken, textKey } from "./sampling.js";

// The wording of an instruction with a rhyme and an acrostic; either may be "". `instructions` is instructions.json.
export function wordingOf(instructions, form, rhyme, acrostic) {
  const first = (name, argument) => instructions.find((one) => one.name === name).wordings[0].replace("{}", argument);
  return first(form, "") + (rhyme && first("rhyme", rhyme)) + (acrostic && first("acrostic", acrostic));
}

export class Writer {
  // `model` is the content of model.onnx; `vocabulary` and `limits` are vocabulary.json and generation.json.
  static async open(ort, model, vocabulary, limits) {
    const options = { graphOptimizationLevel: "basic" }; // more would take longer to open, and write no faster
    return new Writer(ort, await ort.InferenceSession.create(model, options), vocabulary, limits);
  }

  constructor(ort, session, vocabulary, limits) {
    Object.assign(this, { ort, session, limits, tokens: vocabulary.tokens, special: vocabulary.special_tokens });
    this.ids = new Map(this.tokens.map((token, id) => [token, id]));
    for (const token of Object.keys(this.special)) this.ids.delete(token); // a typed "<RES>" is five characters
  }

  knows(character) {
    return this.ids.has(character);
  }

  // One id for each character.
  encode(text) {
    return [...text].map((character) => this.ids.get(character) ?? this.special["<UNK>"]);
  }

  // The prompt for a title: the instruction, the title, and the mark after which the poem begins.
  promptIds(title, wording) {
    const { "<INS>": instruction, "<INP>": input, "<RES>": response } = this.special;
    return [instruction, ...this.encode(wording), input, ...this.encode(title), response];
  }

  // The logits after `ids`, and what the model remembers of them and of all tokens before.
  async step(ids, past) {
    const input_ids = new this.ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
    const { logits, present } = await this.session.run({ input_ids, past });
    return [logits.data, present];
  }

  // Yields the characters of a poem. Returns "end" if the model ended it, or "length".
  async *write(prompt, seed) {
    const { settings, context, end_id, banned, line_ends, empty_cache } = this.limits;
    const key = textKey(seed, 0, prompt);
    const repetition = new Repetition(this.tokens.length, banned, line_ends);
    let past = new this.ort.Tensor("float32", new Float32Array(0), empty_cache);
    let ids = prompt;
    for (let step = 1; step <= settings.max_new_tokens && step <= context - prompt.length + 1; step++) {
      const [logits, present] = await this.step(ids, past);
      const token = drawToken(repetition.penalize(logits), absorb(key, step), settings);
      if (token === end_id) return "end";
      repetition.add(token, settings.presence_penalty);
      yield this.tokens[token];
      [ids, past] = [[token], present];
    }
    return "length";
  }
}
