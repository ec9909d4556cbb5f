"""Conversations from a file of your own: JSON lines, in either of two common forms.

    {"messages": [{"role": "system", "content": "…"}, {"role": "user", …}, {"role": "assistant", …}]}
    {"instruction": "…", "input": "…", "output": "…"}

The first is the form in which chat interfaces exchange conversations. The second is that of Alpaca (Taori et al. 2023);
`input` may be missing.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from course_lib.instructions import POEM, Exchange, Instruction
from course_lib.language import say
from course_lib.roles import (
    END,
    RESPONSE,
    TOKEN_OF_ROLE,
    Conversation,
    Message,
    length_of,
    message_segments,
    opening,
    room_for_response,
)
from course_lib.tokenizer import CharacterTokenizer

Row = TypeVar("Row")


def read_conversations(path: Path) -> list[Conversation]:
    """The conversations in a file, one from each line that is not blank.

    Raises ValueError, with the number of the line, for a line from which nothing can be learned: it has another form,
    a role that is none of the three, or no answer.
    """
    return read_lines(path, parse, say("no conversation is in it"))


def read_lines(path: Path, parse: Callable[[Any], Row], if_empty: str) -> list[Row]:
    """What `parse` makes of each line of JSON in a file. Blank lines are left out.

    Raises ValueError, with the number of the line, if it is no JSON or `parse` raises ValueError.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # `splitlines` also splits at characters of a text
    except UnicodeDecodeError as error:
        raise ValueError(say("{path}: not a text file in UTF-8 ({error})", path=path, error=error)) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append(parse(json.loads(line)))
            except (ValueError, RecursionError) as error:
                why = say("this is not JSON: see character {n}", n=at) if (at := getattr(error, "colno", 0)) else error
                raise ValueError(say("{path}, line {n}: {error}", path=path, n=number, error=why)) from error
    if not rows:
        raise ValueError(f"{path}: {if_empty}")
    return rows


def parse(row: Any) -> Conversation:
    """The conversation in one JSON value. Raises ValueError if nothing can be learned from it."""
    match row:
        case {"messages": list(messages)}:
            conversation = [message(each) for each in messages]
        case {"instruction": str(asked), "output": str(output), **rest} if isinstance(rest.get("input") or "", str):
            given = str(rest.get("input") or "")
            conversation = [message(each) for each in opening(asked if given else "", Exchange(given or asked, output))]
        case _:
            form = say('a line has "messages" (a list), or "instruction", "output" and perhaps "input" (texts)')
            raise ValueError(form)
    if not any(each["role"] == "assistant" and each["content"] for each in conversation):
        raise ValueError(say("the assistant says nothing, so there is nothing to learn"))
    if conversation[-1]["role"] != "assistant":
        raise ValueError(say("the last message is the {role}'s; it must be the assistant's", **conversation[-1]))
    return conversation


def message(row: Any) -> Message:
    """One message. Raises ValueError if it has another form."""
    match row:
        case {"role": str(role), "content": str(content)} if role in TOKEN_OF_ROLE:
            content.encode()  # raises ValueError for half of a surrogate pair
            return Message(role=role, content=content)
        case {"role": role, "content": str()}:
            raise ValueError(say("role {role!r} is none of {known}", role=role, known=", ".join(TOKEN_OF_ROLE)))
    raise ValueError(say('a message has a "role" and a "content", which is text'))


def taught_by(conversations: Sequence[Conversation]) -> tuple[Instruction, ...]:
    """The system lines of the conversations as instructions, the most frequent first, at most ten.

    Lines with {}, the sign for an argument, are left out. Raises ValueError if no line is left.
    """
    lines = Counter(talk[0]["content"] if talk[0]["role"] == "system" else "" for talk in conversations)
    found = [line for line, _ in lines.most_common() if "{}" not in line][:10]
    if not found:
        raise ValueError(say("every system line has {sign} in it, the sign for an argument: write another", sign="{}"))
    labels = [re.split("[,，=]", line)[0][:12] for line in found]  # `find` splits at these signs
    named = enumerate(zip(labels, found, strict=True), start=1)
    rows = [Instruction(f"own-{n}", f"{n}: {label}".strip(), (line,), given="text") for n, (label, line) in named]
    return tuple(POEM if row.wording == POEM.wording else row for row in rows)  # others have rules, which need not hold


class Survey(NamedTuple):
    """What a file of conversations holds, as the model would read it. Conversations are counted from 1."""

    lengths: list[int]  # of each conversation, in tokens
    cut: list[int]  # the numbers of those that are longer than the context
    unread: list[int]  # the numbers of those with no answer within the context: nothing is learned from them
    repeated: list[int]  # the numbers of those that stand in the file a second time
    unknown: dict[str, int]  # characters that are not in the vocabulary, and how often they occur


def survey(conversations: Sequence[Conversation], tokenizer: CharacterTokenizer, context: int) -> Survey:
    """What to know about conversations before a model is trained on them."""
    texts = [message_segments(talk) for talk in conversations]
    lengths = [length_of(segments) for segments in texts]
    first = {str(talk): n for n, talk in reversed(list(enumerate(conversations, start=1)))}
    counts = Counter(character for segments in texts for _, text in segments for character in text)
    return Survey(
        lengths,
        [n for n, length in enumerate(lengths, start=1) if length > context],
        [n for n, segments in enumerate(texts, start=1) if room_for_response(segments, context) <= 0],
        [n for n, talk in enumerate(conversations, start=1) if first[str(talk)] != n],
        {c: n for c, n in counts.most_common() if tokenizer.encode(c) == [tokenizer.unk_id]},
    )


def marked(conversation: Conversation) -> str:
    """The conversation to look at, with 【 】 around what the model learns. Never encode it."""
    signs = {RESPONSE: f"{RESPONSE}【", END: f"{END}】"}
    return "".join(signs.get(token, token) + text for token, text in message_segments(conversation))
