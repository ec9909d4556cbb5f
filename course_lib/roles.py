"""What a training example looks like: segments of text, each opened by a special token.

    [("<INS>", "請用以下題目寫一首詩"), ("<INP>", "春夜喜雨"), ("<RES>", "好雨知時節，…"), ("<EOS>", "")]

The tokenizer turns the first part of a segment into one special token, and the second part into characters only: a
title that reads `<RES>` stays a title.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypedDict

from course_lib.instructions import POEM, Instruction
from course_lib.poems import Poem

INSTRUCTION, INPUT, RESPONSE = ROLE_TOKENS = ("<INS>", "<INP>", "<RES>")
END = "<EOS>"

Role = Literal["system", "user", "assistant"]
Segment = tuple[str, str]  # (special token, text)
TOKEN_OF_ROLE: dict[Role, str] = {"system": INSTRUCTION, "user": INPUT, "assistant": RESPONSE}


class Message(TypedDict):
    """One turn of a conversation, in the form that chat interfaces use."""

    role: Role
    content: str


def pretraining_text(poem: Poem) -> str:
    """A poem as the base model reads it: the title, one couplet a row, a blank row."""
    return f"{poem.title}\n{poem.text}\n\n"


def prompt_segments(title: str, instruction: Instruction = POEM) -> list[Segment]:
    """The prompt: the instruction, the title, and a response that is still empty."""
    return [(INSTRUCTION, instruction.wording), (INPUT, title), (RESPONSE, "")]


def example_segments(poem: Poem, instruction: Instruction = POEM) -> list[Segment]:
    """A complete training example: the instruction, the title, the poem as the response, and the end."""
    return [(INSTRUCTION, instruction.wording), (INPUT, poem.title), (RESPONSE, poem.text), (END, "")]


def message_segments(messages: Iterable[Message], *, open_response: bool = False) -> list[Segment]:
    """The segments of a conversation; the end token follows each turn of the assistant.

    `open_response` adds an empty response for the model to fill. Chat templates call this `add_generation_prompt`.
    Raises ValueError if a role is not system, user or assistant.
    """
    segments: list[Segment] = []
    for message in messages:
        if message["role"] not in TOKEN_OF_ROLE:
            raise ValueError(f"role {message['role']!r} is none of {', '.join(TOKEN_OF_ROLE)}")
        segments.append((TOKEN_OF_ROLE[message["role"]], message["content"]))
        if message["role"] == "assistant":
            segments.append((END, ""))
    return [*segments, (RESPONSE, "")] if open_response else segments


def spelled_out(segments: Sequence[Segment]) -> str:
    """The segments as one string to read. Never encode it: a typed `<RES>` would look like the token."""
    return "".join(token + text for token, text in segments)


# `message_segments` as a Jinja template, the form in which `transformers` tokenizers carry it.
CHAT_TEMPLATE = (
    "{% set marks = {'system': '<INS>', 'user': '<INP>', 'assistant': '<RES>'} %}"
    "{% for message in messages %}"
    "{% if message['role'] not in marks %}{{ raise_exception('unknown role ' + message['role']) }}{% endif %}"
    "{{ marks[message['role']] }}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<EOS>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<RES>{% endif %}"
)
