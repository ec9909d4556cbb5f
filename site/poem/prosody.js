// Form, rhyme and tones of a poem, as course_lib/prosody.py finds them. `groups` is prosody.json.

const HAN = "[\\u3400-\\u9fff\\u{20000}-\\u{3ffff}]";
const COUPLETS = [5, 7].map((n) => new RegExp(`^(?:${HAN}{${n}}，${HAN}{${n}}。\\n?)+$`, "u"));
const LICENCE = "平平仄平仄"; // this end of a line is allowed, although it does not alternate
export const SIGNS = { 平: "○", 仄: "●", 平仄: "◐", "？": "？" };
export const RHYME_WORD = "△";

const isSure = (tone) => tone === "平" || tone === "仄";
const fits = (tone, wanted) => tone === wanted || !isSure(tone);
export const isLevel = (group) => group.includes("平聲");
export const isWellFormed = (text) => COUPLETS.some((couplets) => couplets.test(text.trim()));

// The lines of a poem without punctuation, each as a list of its characters.
const splitLines = (text) =>
  text
    .split(/[，。？！；：]/)
    .map((part) => [...part.trim()])
    .filter((line) => line.length);

export class Prosody {
  constructor(groups) {
    this.readings = new Map();
    for (const [group, characters] of Object.entries(groups))
      for (const c of characters) this.readings.set(c, [...(this.readings.get(c) ?? []), group]);
  }

  // The level-tone groups in which a character may rhyme.
  levelGroups(character) {
    return [...new Set(this.readings.get(character))].filter(isLevel);
  }

  tone(character) {
    const kinds = new Set((this.readings.get(character) ?? []).map(isLevel));
    if (kinds.size !== 1) return kinds.size ? "平仄" : "？";
    return kinds.has(true) ? "平" : "仄";
  }

  // { lines, characters, tones, group, words, faults, rhymes }; a fault is { rule, line, position }.
  scan(text) {
    const lines = splitLines(text);
    const tones = lines.map((line) => line.map((c) => this.tone(c)));
    const lengths = new Set(lines.map((line) => line.length));
    const characters = lengths.size === 1 && [5, 7].includes(lines[0].length) ? lines[0].length : null;
    const { group, words, faults } = this.rhyme(lines);
    const known = words.filter(({ line, word }) => line % 2 && this.readings.has(word));
    const rhymes = known.length > 1 && !faults.length;
    return { lines, characters, tones, group, words, faults: [...faults, ...toneFaults(tones)], rhymes };
  }

  // The rhyme words, and the level-tone group that most of them share. The first line may join.
  rhyme(lines) {
    const words = lines.map((line, number) => ({ line: number, word: line.at(-1) })).filter(({ line }) => line % 2);
    const votes = new Map();
    for (const { word } of words)
      for (const group of this.levelGroups(word).sort(byCodePoint)) votes.set(group, (votes.get(group) ?? 0) + 1);
    const group = [...votes].reduce((a, b) => (b[1] > a[1] ? b : a), [null, 0])[0];
    const first = lines[0]?.at(-1);
    if (this.levelGroups(first).includes(group)) words.unshift({ line: 0, word: first });
    const at = (rule) => ({ line }) => ({ rule, line, position: lines[line].length - 1 });
    const wrong = words.filter(({ word }) => this.readings.has(word) && !this.levelGroups(word).includes(group));
    const again = words.filter(({ word }, number) => words.findIndex((one) => one.word === word) !== number);
    return { group, words, faults: [...wrong.map(at("rhyme")), ...again.map(at("repeated"))] };
  }
}

const byCodePoint = (a, b) => (a < b ? -1 : 1);

// The places where a line fails to alternate; only characters 2, 4, 6 … count, and only those of a sure tone.
function clashes(line) {
  const sure = [...line.keys()].filter((i) => i % 2 && i < line.length - 1 && isSure(line[i]));
  return sure.slice(1).filter((i, n) => (line[i] === line[sure[n]]) !== ((i - sure[n]) % 4 === 0));
}

// The faults against the tone rules of regulated verse, in reading order.
function toneFaults(tones) {
  const faults = [];
  tones.forEach((line, number) => {
    const isLicensed = [5, 7].includes(line.length) && line.slice(-5).every((tone, i) => fits(tone, LICENCE[i]));
    for (const position of clashes(line))
      if (!isLicensed || position !== line.length - 2) faults.push({ rule: "alternation", line: number, position });
  });
  const seconds = tones.map((line) => line[1] ?? "？");
  seconds.forEach((below, line) => {
    const above = seconds[line - 1];
    const isKept = line % 2 ? above !== below : above === below;
    if (line && isSure(above) && isSure(below) && !isKept)
      faults.push({ rule: line % 2 ? "opposition" : "adhesion", line, position: 1 });
  });
  tones.forEach((line, number) => {
    if (line.length > 2 && line.slice(-3).every((tone) => tone === "平"))
      faults.push({ rule: "threeLevel", line: number, position: line.length - 3 });
  });
  return faults.sort((a, b) => a.line - b.line || a.position - b.position);
}

// The sign of each character of verse, by its place in the list of characters: { sign, broken }.
export function toneSigns(characters, scansion, prosody) {
  const rhyming = new Set(
    scansion.words.filter(({ word }) => prosody.levelGroups(word).includes(scansion.group)).map(({ line }) => line),
  );
  const signs = new Map();
  let place = 0;
  scansion.lines.forEach((line, number) => {
    while (characters[place] !== line[0]) place++;
    line.forEach((_, position) => {
      const broken = scansion.faults.filter((f) => f.line === number && f.position === position).map((f) => f.rule);
      const rhymes = rhyming.has(number) && position === line.length - 1;
      signs.set(place++, { sign: rhymes ? RHYME_WORD : SIGNS[scansion.tones[number][position]], broken });
    });
  });
  return signs;
}
