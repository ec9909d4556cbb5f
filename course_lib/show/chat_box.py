"""The chat box: on the left a conversation as a person sees it, on the right the same as the text that the model reads.

`chat_html` draws both, and `ChatBox` connects them to fields and buttons. All widgets exist in ipywidgets 7 and 8.
"""

import threading
from contextlib import suppress
from html import escape
from random import Random
from typing import Any

import ipywidgets as widgets

from course_lib.chat import Chat
from course_lib.checkpoints import Checkpoint
from course_lib.instructions import joined
from course_lib.language import is_chinese, say, sentences
from course_lib.poems import DEMO_TITLE, Poem
from course_lib.roles import END, RESPONSE, Message, message_segments
from course_lib.show.html import INK, MONO, QUIET, RED, RULE, SANS, SHEET, Html, lang, serif, small, tokens
from course_lib.show.title_box import STATES, Box, Script, State, labelled, named, script_menu, together
from course_lib.titles import to_traditional

EXAMPLE = Poem(DEMO_TITLE, "杜甫", ("好雨知時節，當春乃發生。", "隨風潛入夜，潤物細無聲。"))  # for the first message
ARGUMENTS = {"another-form": "七言絕句", "next-title": "江雪", "rhyme": "東", "acrostic": "春夏秋冬"}  # examples
BUTTONS = ("Send", "Stop", "Another", "Clear")
THREAD = "chat box"  # the name of the thread that writes


def chat_html(chat: Chat, state: State, note: str = "", partial: str = "", *, script: Script = str) -> Html:
    """The bubbles of a conversation, the text that the model reads, and a line that says the state.

    `partial` is the answer that is being written. `note` is an extra sentence, such as why a message was refused.
    Messages that the model no longer reads are grey. `script` changes the bubbles alone.
    """
    answer = [Message(role="assistant", content=partial)] if state == "writing" else []
    messages, heard = [*chat.messages, *answer], [*chat.heard, *answer]
    bubbles = "".join(_bubble(m, any(m is other for other in heard), script) for m in messages[1:])
    segments = message_segments(heard)
    if state in ("writing", "length", "stopped") and segments[-1][0] == END:
        segments.pop()  # the model has not written it
    tokenizer = chat.checkpoint.tokenizer
    text = ""
    for mark, content in segments:
        characters = "".join(map(_token, tokens(tokenizer, tokenizer.encode(content))))
        text += "\n" * (mark != END) + _token(mark)
        text += f'<span style="color:{INK if mark == RESPONSE else QUIET}">{characters}</span>'
    sides = _side(say("What you see"), bubbles, script) + _side(say("What the model reads"), text.strip())
    grid = "display:grid;gap:1.5em;grid-template-columns:repeat(auto-fit,minmax(min(20em,100%),1fr))"  # one below 43 em
    size = {"count": len(tokenizer.encode_segments(segments)), "context": chat.context}
    legend = say("{count} of {context} characters and marks · black: written by the model · ↵: a new row", **size)
    if len(heard) < len(messages):
        lost = say("The model no longer reads the grey messages: its context holds {context} characters.", **size)
        note = sentences(note, lost)
    said = f"<b>{say(STATES[state][0])}</b> {escape(note)}"
    status = f'<div role="status" style="font:1em/1.5 {SANS};margin-top:.6em">{said}</div>'
    return Html(f'<div style="{SHEET};padding:.8em 1em"><div style="{grid}">{sides}</div>{small(legend)}{status}</div>')


def _side(name: str, inner: str, script: Script = str) -> str:
    """A part of the page with its end in view: a browser scrolls a reversed column to the bottom."""
    size = "min-height:min(22em,40vw - 6em);max-height:22em"  # on a phone, it grows with the conversation
    flow = f"display:flex;flex-direction:column-reverse;{size};overflow-y:auto;border-top:1px solid {RULE}"
    style = f"font:1.15em/1.6 {serif(script)};white-space:pre-wrap;overflow-wrap:anywhere;margin-bottom:auto"
    scrolled = f'<div tabindex="0" style="{flow}"><div {lang(script)} style="{style}">{inner}</div></div>'
    return f'<div style="min-width:0"><b style="font:bold .9em {SANS}">{name}</b>{scrolled}</div>'


def _bubble(message: Message, is_read: bool, script: Script) -> str:
    """One message. Who said it stands above, for those who cannot see on which side it is."""
    side, paper = ("right", "#dfe9e4") if message["role"] == "user" else ("left", "#fffdf8")
    look = f"background:{paper};border:1px solid {RULE}" if is_read else f"color:{QUIET};border:1px dashed {QUIET}"
    who = say(message["role"])
    if not is_read:
        who = say("{role}, no longer read", role=who)
    box = f"display:inline-block;max-width:85%;border-radius:12px;padding:.3em .8em;text-align:left;{look}"
    inner = f'<div lang="{"zh-Hans" if is_chinese() else "en"}" style="font:.75em {SANS};color:{QUIET}">{who}</div>'
    inner += f'<div style="{box}">{escape(script(message["content"])) or "…"}</div>'
    return f'<div style="text-align:{side};margin:.4em 0">{inner}</div>'


def _token(token: str) -> str:
    """One token as HTML. A special token has a frame, so that typed text cannot look like one."""
    if len(token) == 1:
        return f'<span style="color:{RED}">↵</span>\n' if token == "\n" else escape(token)
    colour = RED if token == END else QUIET
    frame = f"font:bold .75em {MONO};color:{colour};border:1px solid;border-radius:.4em;padding:0 .25em"
    return f'<span style="{frame}">{escape(token)}</span>'


class ChatBox(Box):
    """Fields for the system line and a message, buttons, and a page that shows the conversation from both sides.

    The menu of instructions fills the system line; a new system line begins a new conversation. `pace` is the least
    time between two characters, in seconds. Raises ValueError if the model was taught no instruction.
    """

    def __init__(self, checkpoint: Checkpoint, *, pace: float = 0.05) -> None:
        self.chat = Chat(checkpoint, checkpoint.instruction())
        self.pace = pace
        self._stopping = threading.Event()
        taught = checkpoint.instructions
        menu = [(named(i), i) for i in taught if i.kind == "sentence"]
        clauses = [i for i in taught if i.kind == "clause"]
        turns = [i.wording.replace("{}", ARGUMENTS.get(i.name, "")) for i in taught if i.kind == "turn"]
        actions = dict(zip(BUTTONS, (self.send, self.stop, self.another, self.clear), strict=True))
        self.instruction = labelled(widgets.Dropdown, say("Instruction"), "16em", options=menu)
        self.clauses = {i: labelled(widgets.Text, named(i).capitalize(), "11em") for i in clauses}
        self.system = labelled(widgets.Text, say("System line"), "auto")
        self.message = labelled(widgets.Text, say("Message"), "auto")
        self.script = script_menu(self._draw)
        self.page = widgets.HTML()
        labels = {turn: turn for turn in turns} | {name: say(name) for name in actions}
        self.buttons = {name: widgets.Button(description=labels[name], layout={"width": "auto"}) for name in labels}
        self.buttons["Send"].button_style = "primary"
        for name, button in self.buttons.items():
            button.on_click(actions.get(name, lambda turn: setattr(self.message, "value", turn.description)))
        self.message.on_msg(lambda _, content, __: self.send() if content.get("event") == "submit" else None)
        for field in (self.instruction, *self.clauses.values()):
            field.observe(self._fill, "value")
        self._fill()
        self.clear()
        choices = [self.instruction] * (len(menu) > 1) + [together(*self.clauses.values())]
        pressed = [self.buttons[name] for name in actions] + [self.script] * is_chinese()
        rows = [choices, [self.buttons[turn] for turn in turns], pressed]
        above, offered, below = (widgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows)
        super().__init__([above, self.system, self.page, offered, self.message, below], layout={"max_width": "62em"})

    def _fill(self, change: Any = None) -> None:
        """Put the wording of what was chosen in the system line, and an example in the message of a new choice."""
        for clause, field in self.clauses.items():
            field.disabled, field.placeholder = self.instruction.value.given != "title", ARGUMENTS.get(clause.name, "")
        with suppress(ValueError):  # `send` says why a field is refused
            self.system.value = self._asked()[0]
        if change is None or change.owner is self.instruction:
            self.message.value = self._example()

    def _asked(self) -> tuple[str, str]:
        """The wording of what was chosen, and a remark on Simplified fields. Raises ValueError if one is refused."""
        clauses, remarks, tokenizer = [], [], self.chat.checkpoint.tokenizer
        for clause, field in self.clauses.items():
            if (typed := field.value.strip()) and not field.disabled:
                argument, remark = to_traditional(typed, tokenizer)
                clauses.append(clause.about(argument))
                remarks.append(remark if argument != typed else "")
        return joined(self.instruction.value, clauses).wording, sentences(*remarks)

    def _example(self) -> str:
        """What the chosen instruction can be given."""
        return self.instruction.value.exchange(EXAMPLE, Random(0)).given

    def send(self, _: object = None) -> None:
        """Answer the message. An answer that is being written stops first."""
        self.stop()
        talk, note = self.chat, ""
        if self.system.value.strip() != talk.system:
            note = say("The system line is new, and so is the conversation.") if len(talk.messages) > 1 else ""
            talk = Chat(talk.checkpoint, self.instruction.value, self.system.value)
        try:
            _, remark = self._asked()
            note = sentences(note, remark if len(talk.messages) == 1 else "", talk.ask(self.message.value))
        except ValueError as error:
            self._draw("refused", str(error))
        else:
            self.chat = talk
            self.message.value = ""
            self._begin(note)

    def another(self, _: object = None) -> None:
        """Answer the last message again, with the next seed."""
        self.stop()
        self.chat.again()
        self._begin()

    def clear(self, _: object = None) -> None:
        """Begin a new conversation."""
        self.stop()
        self.message.value = self.message.value or self._example()
        self.chat = Chat(self.chat.checkpoint, self.instruction.value, self.system.value)
        self._draw("ready", say("Type a message, then press Send or the Enter key."))

    def stop(self, _: object = None) -> None:
        """End the answer after the character that is being written."""
        self._stopping.set()
        self.wait()

    def _begin(self, note: str = "") -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._work, args=(note,), name=THREAD, daemon=True)
        self._thread.start()

    def _work(self, note: str) -> None:
        """The work of the thread: write one answer, and show each character, then how it ended."""
        state: State = "failed"
        try:
            stream = self.chat.reply()
            self._draw("writing", note)
            for _ in stream:
                self._draw("writing", note, stream.text)
                if self._stopping.wait(self.pace):
                    stream.stop()
            self.chat.answered(stream.text)
            state = stream.reason or "failed"
        except Exception as error:  # the box shows it: a thread has no caller that could catch it
            note = str(error)
        self._draw(state, note)

    def _draw(self, *shown: Any) -> None:
        """Show the conversation, with a state and perhaps a note and a partial answer; without any, the last ones."""
        self._shown = shown or self._shown
        self.page.value = chat_html(self.chat, *self._shown, script=self.script.value)
        for name, button in self.buttons.items():  # "Another" and the turns come after a message
            off = self._shown[0] != "writing" if name == "Stop" else len(self.chat.messages) == 1
            button.disabled = off and name not in ("Send", "Clear")
