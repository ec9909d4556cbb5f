"""What a training example looks like: segments of text, each opened by a special token.

    [("<INS>", "請用以下題目寫一首詩"), ("<INP>", "春夜喜雨"), ("<RES>", "好雨知時節，…"), ("<EOS>", "")]

The tokenizer turns the first part of a segment into one special token, and the second part into characters only: a
title that reads `<RES>` stays a title.
"""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Literal, TypedDict

from course_lib.instructions import POEM, Exchange, Instruction, answered_by
from course_lib.language import say
from course_lib.poems import Poem

INSTRUCTION, INPUT, RESPONSE = ROLE_TOKENS = ("<INS>", "<INP>", "<RES>")
END = "<EOS>"

Role = Literal["system", "user", "assistant"]
Segment = tuple[str, str]  # (special token, text)
Conversation = list["Message"]
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
    return message_segments(asking(instruction.wording, title), open_response=True)


def example_segments(poem: Poem, instruction: Instruction = POEM) -> list[Segment]:
    """A complete training example: the instruction, the title, the poem as the response, and the end."""
    return [*prompt_segments(poem.title, instruction)[:-1], (RESPONSE, poem.text), (END, "")]


def message_segments(messages: Iterable[Message], *, open_response: bool = False) -> list[Segment]:
    """The segments of a conversation; the end token follows each turn of the assistant.

    A system line without text is left out. `open_response` adds an empty response for the model to fill; chat templates
    call this `add_generation_prompt`. Raises ValueError if a role is not system, user or assistant.
    """
    segments: list[Segment] = []
    for message in messages:
        if message["role"] not in TOKEN_OF_ROLE:
            raise ValueError(f"role {message['role']!r} is none of {', '.join(TOKEN_OF_ROLE)}")
        if message["content"] or message["role"] != "system":
            segments.append((TOKEN_OF_ROLE[message["role"]], message["content"]))
        if message["role"] == "assistant":
            segments.append((END, ""))
    return [*segments, (RESPONSE, "")] if open_response else segments


def asking(system: str, given: str) -> Conversation:
    """The messages of a first request: the system line, if there is one, and what the user gives."""
    first = [Message(role="system", content=system)] if system else []
    return [*first, Message(role="user", content=given)]


def opening(system: str, exchange: Exchange) -> Conversation:
    """The messages of a first request, and the answer."""
    return [*asking(system, exchange.given), Message(role="assistant", content=exchange.answer)]


def plain_conversations(poems: Sequence[Poem], instructions: Sequence[Instruction]) -> list[Conversation]:
    """Each poem as the answer to the last of `instructions` that it fits, in the instruction's first wording.

    Raises ValueError if a poem fits no instruction.
    """
    made = {p: opening(answered_by(p, instructions).wording, Exchange(p.title, p.text)) for p in dict.fromkeys(poems)}
    return [made[poem] for poem in poems]


def length_of(segments: Iterable[Segment]) -> int:
    """How many tokens the segments have: one for the role, and one for each character."""
    return sum(1 + len(text) for _, text in segments)


def room_for_response(segments: Sequence[Segment], context: int) -> int:
    """How many tokens the context has left after the first prompt, which ends with the response's special token."""
    return context - length_of(takewhile(lambda segment: segment[0] != RESPONSE, segments)) - 1


def within(messages: Conversation, room: int) -> Conversation:
    """The messages without the oldest answers, so that they have at most `room` tokens.

    With each answer, the request after it goes too: the first request, which has the title, now asks for the next
    answer. Raises ValueError if the first request and the last message have no room.
    """
    kept = list(messages)
    while length_of(message_segments(kept)) > room:
        oldest = next((i for i, message in enumerate(kept[:-2]) if message["role"] == "assistant"), None)
        if oldest is None:
            raise ValueError(
                say("The conversation is too long, even without older answers: at most {room} characters.", room=room)
            )
        del kept[oldest : oldest + 2]
    return kept


def spelled_out(segments: Sequence[Segment]) -> str:
    """The segments as one string to read. Never encode it: a typed `<RES>` would look like the token."""
    return "".join(token + text for token, text in segments)


# `message_segments` as a Jinja template, the form in which `transformers` tokenizers carry it.
CHAT_TEMPLATE = (
    "{% set marks = {'system': '<INS>', 'user': '<INP>', 'assistant': '<RES>'} %}"
    "{% for message in messages %}"
    "{% if message['role'] not in marks %}{{ raise_exception('unknown role ' + message['role']) }}{% endif %}"
    "{% if message['content'] or message['role'] != 'system' %}"
    "{{ marks[message['role']] }}{{ message['content'] }}{% endif %}"
    "{% if message['role'] == 'assistant' %}<EOS>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<RES>{% endif %}"
)
