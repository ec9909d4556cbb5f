"""The choice box: two poems on one title, and the learner says which is better. `recipes.preference` learns from it."""

import threading
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from random import Random
from typing import Any

import ipywidgets as widgets

from course_lib.checkpoints import Checkpoint
from course_lib.files import append_lines
from course_lib.generation import iter_poems
from course_lib.language import is_chinese, say, sentences
from course_lib.poems import DEMO_TITLE, load_poems
from course_lib.prosody import scan
from course_lib.roles import asking
from course_lib.show.annotate import LEGEND, signed_rows, sound
from course_lib.show.html import SANS, SERIF, SHEET, Html, lang, serif, small
from course_lib.show.title_box import STATES, Box, Script, State, labelled, script_menu
from course_lib.tasks import Pair, read_pairs
from course_lib.titles import read_title

BUTTONS = ("Write", "Left is better", "Right is better", "Neither")
CANDIDATES = 4  # poems to take two different ones from that the model has ended
THREAD = "choice box"  # the name of the thread that writes


def choice_html(title: str, poems: Sequence[str], state: State, note: str, *, script: Script = str) -> Html:
    """Two poems side by side, below each other on a narrow page; then the state, and the sentence `note`."""
    sides = zip((say("Left"), say("Right")), poems, strict=False)
    drawn = "".join(_side(side, script(title), text, script) for side, text in sides)
    grid = "display:grid;gap:1em;grid-template-columns:repeat(auto-fit,minmax(min(19em,100%),1fr))"
    legend = small(say(LEGEND)) if poems else ""
    status = f'<div role="status" style="font:1em/1.5 {SANS}"><b>{say(STATES[state][0])}</b> {escape(note)}</div>'
    return Html(f'<div style="{SHEET};padding:.8em 1em"><div style="{grid}">{drawn}</div>{legend}{status}</div>')


def _side(name: str, title: str, text: str, script: Script) -> str:
    """One poem with its signs, a line in a row, and a sentence on its sound."""
    scansion = scan(text)
    rows = "".join(f"<div>{''.join(row)}</div>" for row in signed_rows(text, scansion, script))
    style = f"font:1.25em/2.2 {serif(script)};ruby-position:under"
    heading = f'<b style="font:bold .9em {SANS}">{name}</b><div style="font:bold 1.15em {SERIF}">{escape(title)}</div>'
    return f'<div>{heading}<div {lang(script)} style="{style}">{rows}</div>{small(script(sound(scansion)))}</div>'


class ChoiceBox(Box):
    """A field for the title, two poems on it, and the buttons *Left is better*, *Right is better* and *Neither*.

    A choice is added to `file`, which `tasks.read_pairs` reads; then come two poems on the next title. `titles` are by
    default training titles in random order, without those in the file. Raises ValueError if a line of it is not a pair.
    """

    def __init__(self, checkpoint: Checkpoint, file: Path | str, titles: Iterable[str] | None = None) -> None:
        self._checkpoint = checkpoint
        self._file = Path(file)
        known = [pair.prompt[-1]["content"] for pair in read_pairs(self._file)] if self._file.is_file() else []
        self.count = len(known)  # choices in the file
        drawn = Random(0).sample(training := load_poems("train"), len(training)) if titles is None else []
        self._titles = (title for title in titles or (poem.title for poem in drawn) if title not in known)
        self._seed = CANDIDATES * self.count
        self._offered: tuple[str, Sequence[str]] | None = None  # the title and the two poems to choose from
        self.title = labelled(widgets.Text, say("Title"), "auto", value=next(self._titles, ""), placeholder=DEMO_TITLE)
        self.title.on_msg(lambda _, content, __: self.write() if content.get("event") == "submit" else None)
        self.title.layout.flex = "1 1 12em"
        self.buttons = {name: widgets.Button(description=say(name), layout={"width": "auto"}) for name in BUTTONS}
        for name, button in self.buttons.items():
            button.on_click(self.write if name == "Write" else self.choose)
        self.buttons["Write"].button_style = "primary"
        self.script = script_menu(self._draw)
        self.page = widgets.HTML()
        self._draw("ready", say("Press Write or the Enter key: two poems appear, and you choose."))
        write, *choices = self.buttons.values()
        rows = ([self.title, write, *[self.script] * is_chinese()], choices)
        first, last = (widgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows)
        super().__init__([first, self.page, last], layout={"max_width": "62em"})

    def write(self, _: object = None, choice: Pair | None = None) -> None:
        """Keep a choice, and begin two poems on the title."""
        self.wait()
        self._offered = None
        self._thread = threading.Thread(target=self._work, args=(self.title.value, choice), name=THREAD, daemon=True)
        self._thread.start()

    def choose(self, button: widgets.Button) -> None:
        """Choose as the button says, and go on with the next title. Does nothing while there are no poems."""
        if self._offered:
            title, poems = self._offered
            best, worst = poems if button is self.buttons["Left is better"] else reversed(poems)
            asked = asking(self._checkpoint.instruction().wording, title)
            self.title.value = next(self._titles, "")
            self.write(choice=None if button is self.buttons["Neither"] else Pair(asked, best, worst))

    def _work(self, typed: str, choice: Pair | None) -> None:
        """The work of the thread: write poems, and show two of them. Which one is on the left is drawn by lot."""
        try:
            if choice:
                append_lines(self._file, [choice.as_json()])
                self.count += 1
            self._draw("writing", say("Two poems will appear."))
            read = read_title(typed, self._checkpoint.tokenizer)
            if not read.title:
                return self._draw("refused", read.message)
            seeds = range(self._seed, self._seed + CANDIDATES)
            self._seed += CANDIDATES
            written = iter_poems(self._checkpoint, [read.title] * CANDIDATES, seeds=seeds)
            poems = list(dict.fromkeys(poem.text for poem in written if poem.reason == "end"))[:2]
            if len(poems) < 2:
                why = say("The model did not end two different poems. Try again, or another title.")
                return self._draw("failed", why)
            Random(seeds[0]).shuffle(poems)
            self._offered = read.title, poems
            self._draw("end", sentences(read.message, say("Which of the two is better?")), *self._offered)
        except Exception as error:  # the box shows it: a thread has no caller that could catch it
            self._draw("failed", f"{type(error).__name__}: {error}")

    def _draw(self, *shown: Any) -> None:
        """Show a state, a note, and perhaps a title and two poems; without arguments, the last ones."""
        self._shown = shown or self._shown
        state, note, title, poems = (*self._shown, "", ())[:4]
        kept = say("{count} choices in {file}.", count=self.count, file=self._file.name)
        if self.count == 1:
            kept = say("1 choice in {file}.", file=self._file.name)
        self.page.value = choice_html(title, poems, state, sentences(note, kept), script=self.script.value)
