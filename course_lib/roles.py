"""What a training example looks like: text cut into segments, each opened by the mark of who speaks.

    [("<INS>", "請用以下題目寫一首詩"), ("<INP>", "春夜喜雨"), ("<RES>", "好雨知時節，…"), ("<EOS>", "")]

Nothing here knows about ids. A segment's *mark* becomes one control token, its *text* only ever ordinary
characters (`course_lib.tokenizer`), so a title that reads `<RES>` stays a title.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypedDict

from course_lib.poems import Poem

INSTRUCTION, INPUT, RESPONSE = ROLE_MARKS = ("<INS>", "<INP>", "<RES>")
END = "<EOS>"

WRITE_A_POEM = "請用以下題目寫一首詩"  # "Please write a poem on the following title"
WRITE_OLD_STYLE = "請用以下題目寫一首古體詩"  # verse that keeps no rules of tone, asked for by name

Role = Literal["system", "user", "assistant"]
Segment = tuple[str, str]

MARK_OF_ROLE: dict[Role, str] = {"system": INSTRUCTION, "user": INPUT, "assistant": RESPONSE}


class Message(TypedDict):
    """One turn of a conversation, as chat interfaces exchange it."""

    role: Role
    content: str


Instruct = Callable[[Poem], str]
"""What chooses the instruction that a poem is the answer to."""


def plainly(poem: Poem) -> str:
    """The one instruction of the course, whatever the poem."""
    return WRITE_A_POEM


def prompt_segments(title: str, instruction: str = WRITE_A_POEM) -> list[Segment]:
    """What the model is given before it writes: everything up to the open response."""
    return [(INSTRUCTION, instruction), (INPUT, title), (RESPONSE, "")]


def example_segments(poem: Poem, instruction: str = WRITE_A_POEM) -> list[Segment]:
    """A complete training example: the prompt, the poem as its response, and the end."""
    return [(INSTRUCTION, instruction), (INPUT, poem.title), (RESPONSE, poem.text), (END, "")]


def message_segments(messages: Iterable[Message], *, open_response: bool = False) -> list[Segment]:
    """A conversation in `messages` form as segments; each assistant turn is followed by the end mark.

    With `open_response` the assistant's next turn is left open, for the model to fill: what chat
    templates call `add_generation_prompt`.

    Raises:
        ValueError: a role is none of system, user and assistant.
    """
    segments: list[Segment] = []
    for message in messages:
        mark = MARK_OF_ROLE.get(message["role"])
        if mark is None:
            raise ValueError(f"role {message['role']!r} is none of {', '.join(MARK_OF_ROLE)}")
        segments.append((mark, message["content"]))
        if mark == RESPONSE:
            segments.append((END, ""))
    return [*segments, (RESPONSE, "")] if open_response else segments


def plain_text(segments: Sequence[Segment]) -> str:
    """The segments as one string, the marks spelled out: for reading and for drawing, never for encoding."""
    return "".join(mark + text for mark, text in segments)


CHAT_TEMPLATE = (
    "{% set marks = {'system': '<INS>', 'user': '<INP>', 'assistant': '<RES>'} %}"
    "{% for message in messages %}"
    "{% if message['role'] not in marks %}{{ raise_exception('unknown role ' + message['role']) }}{% endif %}"
    "{{ marks[message['role']] }}"
    "{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<EOS>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<RES>{% endif %}"
)
"""`message_segments` for the `transformers` library, in the Jinja form its tokenizers carry."""
