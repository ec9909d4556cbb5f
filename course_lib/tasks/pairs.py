"""Pairs of answers to one prompt, of which the first is preferred; and files of such pairs.

    {"prompt": [{"role": "user", "content": "…"}], "chosen": [{"role": "assistant", …}], "rejected": [{…}]}

This is the form in which preference data is exchanged, for example with `trl`.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.language import say
from course_lib.roles import Conversation, Message
from course_lib.tasks.own_data import message, read_lines


class Pair(NamedTuple):
    """Two answers to one prompt."""

    prompt: Conversation
    chosen: str
    rejected: str

    def as_json(self, **more: Any) -> str:
        """One line for a JSON-lines file; `more` is written too."""
        answers = {name: [Message(role="assistant", content=getattr(self, name))] for name in ("chosen", "rejected")}
        return json.dumps({"prompt": self.prompt, **answers, **more}, ensure_ascii=False)


def read_pairs(path: Path) -> list[Pair]:
    """The pairs in a file. Raises ValueError, with the number of the line, for a line that is no pair."""
    return read_lines(path, as_pair, say("no pair is in it"))


def as_pair(row: Any) -> Pair:
    """The pair in one JSON value. Raises ValueError if it is none."""
    match row:
        case {"prompt": [*prompt], "chosen": [chosen], "rejected": [rejected]} if prompt:
            answers = [message(each) for each in (chosen, rejected)]
            pair = Pair([message(each) for each in prompt], *(answer["content"] for answer in answers))
            if any(answer["role"] != "assistant" for answer in answers):
                raise ValueError(say("the chosen and the rejected message must be the assistant's"))
            if pair.chosen == pair.rejected:
                raise ValueError(say("the chosen and the rejected answer are the same, so there is nothing to prefer"))
            return pair
    raise ValueError(say('a line has a "prompt" (some messages), "chosen" and "rejected" (a list of one message)'))
