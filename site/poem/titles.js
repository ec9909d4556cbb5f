// What a person typed -> the title that the model reads, as course_lib/titles.py does it; `tables` is titles.json,
// which scripts/build_poem_page.py writes.
// A note is [the name of a sentence, the values in it]; sentences.js has the sentences in both languages.

const HAN = "\\u3400-\\u9fff\\u{20000}-\\u{3ffff}";
const VISIBLE = /[^\s\p{Cf}\p{Mn}\p{Me}\p{Cc}]/u;
const SEPARATORS = new Set("《》、 ");
const AGAIN = new RegExp(`([${HAN}])[々〻]+`, "gu"); // these marks repeat the character before them

const words = (text) => text.split(/\s+/u).filter(Boolean).join(" ");
// The parts, each once and cut at 20 characters; sentences.js puts the mark of the language between them.
const listed = (parts) =>
  [...new Set(parts)].slice(0, 8).map((part) => ([...part].length > 20 ? `${[...part].slice(0, 20).join("")}…` : part));

export class TitleReader {
  // `specialTokens` are plain text in a title; `knows` says whether the model knows a character.
  constructor(tables, specialTokens, knows) {
    Object.assign(this, tables, { knows });
    this.traditional = new Set(Object.values(this.simplified).join("")); // in no Simplified text
    this.special = new RegExp(specialTokens.join("|"), "gi");
    const others = Object.entries(this.same).flat().join("");
    this.notInTitle = new RegExp(`[^${HAN}\\ufa0e-\\ufa29${others}々〻《》、 ]+`, "gu");
  }

  // { title, notes }; the title is "" if it cannot be used.
  read(typed) {
    let text = words(typed.normalize("NFKC"));
    if (!VISIBLE.test(text)) return { title: "", notes: [["blank"]] };
    const special = text.match(this.special) ?? [];
    text = text.replace(this.special, "").replace(/[,.，。]+/g, " ");
    const leftOut = [...special, ...(text.match(this.notInTitle) ?? []).filter((part) => VISIBLE.test(part))];
    text = words(text.replace(this.notInTitle, ""));
    const characters = [...text].map((c) => this.same[c] ?? c).join("");
    const title = characters.replace(AGAIN, (marks, c) => c.repeat([...marks].length));
    if ([...title].every((c) => SEPARATORS.has(c))) return { title: "", notes: [["noChinese"]] };
    const count = [...title].length;
    if (count > this.limits.MAX_TITLE) return { title: "", notes: [["tooLong", { count, most: this.limits.MAX_TITLE }]] };
    const notes = leftOut.length ? [["leftOut", { them: listed(leftOut) }]] : [];
    return this.known(text, title, notes);
  }

  // The same title in the characters of the poems, if the model knows at least one of them.
  known(text, title, notes) {
    const [meant, remark] = this.toTraditional(title);
    if (remark) notes.push(remark);
    else if (meant !== text) notes.push(["readAs", { title: meant }]);
    const characters = [...meant].filter((c) => !SEPARATORS.has(c));
    const strange = characters.filter((c) => !this.knows(c));
    if (strange.length === characters.length) return { title: "", notes: [["unknown", { them: listed(strange) }]] };
    if (strange.length) notes.push(["someUnknown", { them: listed(strange) }]);
    return { title: meant, notes };
  }

  // A title in the characters of the poems, and a note if it is, or may be, Simplified.
  toTraditional(title) {
    const { PENALTY, PENALTY_EITHER, OFFERED } = this.limits;
    const characters = [...title];
    if (!characters.some((c) => this.simplified[c] || this.printed[c])) return [title];
    if (characters.some((c) => this.traditional.has(c))) return [this.reading(characters, false, PENALTY)];
    if (characters.some((c) => this.isSimplified(c))) {
      const meant = this.reading(characters, true, 0);
      return [meant, ["simplified", { title: meant }]];
    }
    const likely = this.reading(characters, true, PENALTY_EITHER);
    const meant = this.reading(characters, true, characters.length > 1 ? 0 : -OFFERED);
    return likely === title && title !== meant ? [likely, ["perhaps", { title: meant }]] : [likely];
  }

  // Whether a character exists in Simplified printing alone.
  isSimplified(character) {
    const others = [...(this.simplified[character] ?? "")].map((c) => this.often(c));
    return this.limits.RARE * this.often(character) < Math.max(0, ...others);
  }

  often(character) {
    return this.frequency[character] ?? 0;
  }

  // The likeliest title (Viterbi), where another character than the typed one costs `penalty` nats.
  reading(characters, asSimplified, penalty) {
    let best = [{ text: ["\n"], score: 0 }]; // the best title that ends in each option
    for (const here of [...characters.map((c) => this.options(c, asSimplified, penalty)), new Map([["\n", 0]])]) {
      best = [...here].map(([character, less]) =>
        best
          .map(({ text, score }) => ({
            text: [...text, character],
            score: score + this.logProbability(text.at(-1), character) - less,
          }))
          .reduce((a, b) => (b.score > a.score ? b : a)),
      );
    }
    return best[0].text.slice(1, -1).join("");
  }

  // What a typed character may stand for, each with its penalty.
  options(character, asSimplified, penalty) {
    const odd = this.isSimplified(character);
    const simplified = odd || asSimplified ? (this.simplified[character] ?? "") : "";
    const others = [...(this.printed[character] ?? ""), ...simplified].map((c) => [c, penalty]);
    return new Map([...(odd ? [] : [[character, 0]]), ...others]);
  }

  // How likely a character is after another one in the training poems, in nats.
  logProbability(before, character) {
    const together = this.followers[before]?.[character] ?? 0;
    const expected = (this.often(character) + 0.5) / this.total;
    const { SMOOTHING } = this.limits;
    return Math.log((together + SMOOTHING * expected) / (this.often(before) + SMOOTHING));
  }
}
