// The page: fields, buttons, and a sheet of paper on which the poem appears character by character.

import { wordingOf } from "./generation.js";
import { Prosody, isLevel, isWellFormed, toneSigns } from "./prosody.js";
import { chosenLanguage, sentence } from "./sentences.js";

const $ = (id) => document.getElementById(id);
const SHORTEST = 12; // characters in a column, at least: a five-character couplet has 12
const LONGEST = 18; // and at most: a seven-character couplet has 16
const USUAL = 4; // columns that are reserved for a new poem
const AHEAD = 3; // characters that the model is asked for before the first of them is shown
const PACE = Number(new URLSearchParams(location.search).get("pace") ?? 50); // milliseconds between two characters

let language = chosenLanguage(location.search, navigator.language);
const say = (name, values) => sentence(language, name, values);

// What the paper shows: { title, text, state, values, notes }. `state` is the name of a sentence.
let shown = { title: "", text: "", state: "opening", values: { percent: 0 }, notes: [] };
let poems = 0; // how many were asked for; a poem goes on while it is the last of them

// --- offline --------------------------------------------------------------------------------------

// Let the service worker keep what the page fetches from now on. Without one, the page only needs the network.
async function keepFiles() {
  if (!navigator.serviceWorker) return;
  const late = new Promise((resolve) => setTimeout(resolve, 2000));
  const inControl = new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve));
  try {
    await navigator.serviceWorker.register("service-worker.js");
    if (!navigator.serviceWorker.controller) await Promise.race([inControl, late]);
  } catch (error) {
    console.warn(error);
  }
}

// --- the model, in its own thread -------------------------------------------------------------------

const waiting = new Map(); // the number of a question -> the functions that settle it
let questions = 0;

function startModel() {
  const worker = new Worker("worker.js", { type: "module" });
  worker.onerror = ({ message }) => loading({ state: "failed", values: { reason: message } });
  worker.onmessage = ({ data }) => {
    if (data.state) return loading(data);
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.error) reject(data.error);
    else resolve(data.result);
  };
  return worker;
}

async function ask(method, given) {
  const worker = await started;
  return new Promise((resolve, reject) => {
    waiting.set(++questions, { resolve, reject });
    worker.postMessage({ id: questions, method, given });
  });
}

// What the worker says while it opens the model: its state is "opening", "ready" or "failed".
function loading({ state, values }) {
  if (shown.state === "opening") show({ state, values });
}

// --- a poem -----------------------------------------------------------------------------------------

async function write() {
  const mine = ++poems;
  const acrostic = $("acrostic").value.trim();
  const wording = wordingOf(instructions, $("form").value, $("rhyme").value, acrostic && "{}"); // filled in by the worker
  const given = { typed: $("title").value, wording, acrostic };
  $("stop").disabled = false;
  try {
    const { title, notes } = await ask("begin", { ...given, seed: Number($("seed").value) || 0 });
    if (mine !== poems) return;
    show({ title, text: "", notes, state: title ? "writing" : "refused" });
    if (title) await appear(mine);
  } catch (reason) {
    if (mine === poems) show({ state: "failed", values: { reason } });
  }
  if (mine === poems) $("stop").disabled = true;
}

// Show each character of the poem, then how it ended.
async function appear(mine) {
  const coming = Array.from({ length: AHEAD }, () => ask("next")); // the model goes on while a character is drawn
  for (;;) {
    const { value, done } = await coming.shift();
    if (mine !== poems) return;
    if (done) return finish(value);
    coming.push(ask("next"));
    show({ text: shown.text + value });
    if (PACE) await new Promise((resolve) => setTimeout(resolve, PACE));
    if (mine !== poems) return;
  }
}

function finish(state) {
  show({ state, values: { count: [...shown.text.replaceAll("\n", "")].length } });
  $("spoken").textContent = looks(`${shown.title}\n${shown.text}`); // a screen reader reads the poem once, as a whole
  $("stop").disabled = true;
}

function another() {
  if (!$("request").reportValidity()) return;
  $("seed").value = (Number($("seed").value) || 0) + 1;
  $("request").requestSubmit();
}

function stop() {
  if ($("stop").disabled) return;
  poems++;
  if (shown.state === "writing") finish("stopped");
  else $("stop").disabled = true; // the model has not begun
}

// --- the paper --------------------------------------------------------------------------------------

let frame = null; // the drawing that is planned

// Change what the paper shows. It is drawn once for each frame of the screen, however many characters have come.
function show(change) {
  shown = { ...shown, ...change };
  frame ??= requestAnimationFrame(draw);
}

function draw() {
  frame = null;
  const { title, state, values, notes } = shown;
  const text = shown.text.trim();
  const scansion = state === "end" ? prosody.scan(text) : null;
  $("verse").lang = $("simplified").checked ? "zh-Hans" : "zh-Hant";
  $("verse").replaceChildren(...columns(title, text, state, scansion));
  $("paper").setAttribute("aria-busy", state === "writing");
  const status = [say(state, values), ...notes.map(([name, given]) => say(name, given))].join(language === "zh" ? "" : " ");
  if ($("status").textContent !== status) $("status").textContent = status; // else it would be read out again
  $("sound").textContent = scansion ? sound(text, scansion) : "";
  $("legend").textContent = scansion ? say("legend") : "";
}

const toSimplified = (text) => text.replace(otherwise, (part) => simplified[part]);

// A text in the characters that the reader has chosen. The model and the rhymes know only the Traditional ones.
function looks(text) {
  return $("simplified").checked ? toSimplified(text) : text;
}

function element(name, className, children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// The title and the couplets as columns, from right to left.
function columns(title, text, state, scansion) {
  const signs = scansion ? toneSigns([...text], scansion, prosody) : new Map();
  const rows = [[]];
  [...looks(text)].forEach((character, place) => {
    if (character === "\n") rows.push([]);
    else rows.at(-1).push(signs.has(place) ? signed(character, signs.get(place)) : character);
  });
  const height = Math.min(LONGEST, Math.max(SHORTEST, ...rows.map((row) => row.length)));
  const drawn = text ? rows.flatMap((row) => cut(row, height)) : [];
  while (state === "writing" && drawn.length < USUAL) drawn.push(...cut([], height));
  const seal = state === "end" ? [element("div", "seal", ["完"])] : []; // the end mark: 完, "complete"
  seal.forEach((mark) => (mark.title = say("endMark")));
  return [...cut([...looks(title)], height, "column heading"), ...drawn, ...seal];
}

// A row as columns of at most `height` characters.
function cut(row, height, className = "column") {
  const parts = [];
  for (let start = 0; start < Math.max(1, row.length); start += height) {
    const part = element("div", className, row.slice(start, start + height));
    part.style.height = `${(height * 1.12).toFixed(2)}em`;
    parts.push(part);
  }
  return parts;
}

// A character with the sign of its tone beside it.
function signed(character, { sign, broken }) {
  const mark = element("rt", "", [sign]);
  mark.ariaHidden = "true";
  const ruby = element("ruby", broken.length ? "fault" : "", [character, mark]);
  if (broken.length) ruby.title = broken.map((rule) => say(`rule.${rule}`)).join(language === "zh" ? "；" : "; ");
  return ruby;
}

// Sentences on the form, the rhyme and the tones of a poem.
function sound(text, { lines, characters, group, rhymes, faults }) {
  const shape = isWellFormed(text) ? say("wellFormed", { lines: lines.length, count: characters }) : say("notWellFormed");
  const rhyme = rhymes ? say("rhymes", { group: group.at(-1) }) : say("doesNotRhyme");
  const count = faults.filter(({ rule }) => rule !== "rhyme" && rule !== "repeated").length;
  const tones = count ? say("faults", { count }) : characters ? say("noFault") : "";
  return [shape, rhyme, tones].join(language === "zh" ? "" : " ");
}

// --- the fields -------------------------------------------------------------------------------------

function option(value, label) {
  return new Option(label, value);
}

function fillMenus() {
  const [form, rhyme] = [$("form").value, $("rhyme").value];
  const forms = instructions.filter(({ kind, given }) => kind === "sentence" && given === "title");
  const label = (one) => {
    const known = say(`form.${one.name}`);
    if (known.startsWith("form.")) return one.label; // a form that this page has no words for
    return language === "zh" ? known : `${known} ${one.label}`;
  };
  $("form").replaceChildren(...forms.map((one) => option(one.name, label(one))));
  const named = (group) => (language === "zh" ? toSimplified(group) : `${group.at(-1)} ${group}`);
  $("rhyme").replaceChildren(option("", say("anyRhyme")), ...groups.map((group) => option(group.at(-1), named(group))));
  $("form").value = form || forms[0].name;
  $("rhyme").value = rhyme;
  for (const name of ["rhyme", "acrostic"]) $(name).closest("label").hidden = !instructions.some((one) => one.name === name);
}

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = say("heading");
  for (const part of document.querySelectorAll("[data-say]")) part.textContent = say(part.dataset.say);
  fillMenus();
  draw();
}

function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  const address = new URL(location);
  address.searchParams.set("lang", language);
  history.replaceState(null, "", address);
  translate();
}

$("request").addEventListener("submit", (event) => {
  event.preventDefault();
  write();
});
$("another").addEventListener("click", another);
$("stop").addEventListener("click", stop);
$("language").addEventListener("click", switchLanguage);
$("simplified").addEventListener("change", draw);
document.addEventListener("keydown", (event) => event.key === "Escape" && stop());

const started = keepFiles().then(startModel);
const [instructions, table, simplified] = await Promise.all(
  ["instructions", "prosody", "simplified"].map(async (name) => (await fetch(`model/${name}.json`)).json()),
);
const prosody = new Prosody(table);
const otherwise = new RegExp(Object.keys(simplified).join("|"), "gu"); // pairs stand before single characters
const groups = Object.keys(table).filter(isLevel);
translate();
$("write").disabled = $("another").disabled = false;
