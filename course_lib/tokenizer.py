"""Segments to ids and back, one token a character.

The only place where a control token's id is made, and only from a segment's mark: `encode("<EOS>")` is
five ordinary characters, because what a person typed must never be able to end the poem or change roles.
The vocabulary is kept by the `tokenizers` library, whose `tokenizer.json` opens in `transformers` as it is.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from course_lib.roles import END, ROLE_MARKS, Segment

PAD, UNK = "<PAD>", "<UNK>"
BASE_CONTROLS = (PAD, UNK, END)
ALWAYS_KNOWN = "\n，。？！；：、「」" + string.printable[:95]  # "<INS>" can be spelled out in five characters
MIN_COUNT = 5  # a character seen less often has too few examples to be learned


class CharacterTokenizer:
    """A `tokenizers.Tokenizer` that keeps typed text and control tokens apart."""

    def __init__(self, backend: Tokenizer) -> None:
        self.backend = backend
        self._ids = self.backend.get_vocab(with_added_tokens=False)  # character -> id
        self.pad_id, self.unk_id, self.eos_id = (self.control_id(mark) for mark in BASE_CONTROLS)

    @classmethod
    def train(cls, texts: Iterable[str], min_count: int = MIN_COUNT) -> CharacterTokenizer:
        """A tokenizer that knows every character occurring `min_count` times, the most frequent first."""
        counts = Counter[str]()
        for text in texts:
            counts.update(text)
        counts.update(dict.fromkeys(ALWAYS_KNOWN, min_count))
        known = sorted((c for c, n in counts.items() if n >= min_count), key=lambda c: (-counts[c], c))
        vocabulary = {token: i for i, token in enumerate((*BASE_CONTROLS, *known))}
        backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
        backend.decoder = decoders.Fuse()
        backend.add_special_tokens(list(BASE_CONTROLS))
        return cls(backend)

    @classmethod
    def load(cls, path: Path) -> CharacterTokenizer:
        """Read a `tokenizer.json`."""
        return cls(Tokenizer.from_file(str(path)))

    def copy(self) -> CharacterTokenizer:
        """A tokenizer of its own: tokens added to one are not added to the other."""
        return CharacterTokenizer(Tokenizer.from_str(self.backend.to_str()))

    def save(self, path: Path) -> None:
        """Write a `tokenizer.json`."""
        self.backend.save(str(path))

    def __len__(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    @property
    def controls(self) -> dict[int, str]:
        """The control tokens, id -> mark."""
        return {i: token.content for i, token in self.backend.get_added_tokens_decoder().items()}

    @property
    def has_roles(self) -> bool:
        """Whether the role tokens have been added."""
        return set(ROLE_MARKS) <= set(self.controls.values())

    def add_role_tokens(self, marks: Sequence[str] = ROLE_MARKS) -> list[int]:
        """Give each mark one id of its own, after all others; the ids come back, also of marks added before.

        The model's embedding needs as many new rows: `course_lib.checkpoints.grow_embedding`.

        Raises:
            ValueError: a mark is a character of the vocabulary; typing it would give the control token.
        """
        for mark in marks:
            if mark not in self.controls.values() and self.backend.token_to_id(mark) is not None:
                raise ValueError(f"{mark!r} is a character of this vocabulary: take a mark of two or more")
        self.backend.add_special_tokens(list(marks))
        return [self.control_id(mark) for mark in marks]

    def control_id(self, mark: str) -> int:
        """The id of a control token.

        Raises:
            KeyError: the vocabulary has no such control token.
        """
        found = [i for i, token in self.controls.items() if token == mark]
        if not found:
            raise KeyError(f"no control token {mark!r} in this vocabulary; add_role_tokens() adds the roles")
        return found[0]

    def encode(self, text: str) -> list[int]:
        """One id a character; characters outside the vocabulary become `<UNK>`, control marks stay text."""
        return [self._ids.get(character, self.unk_id) for character in text]

    def encode_segments(self, segments: Iterable[Segment]) -> list[int]:
        """Each segment's mark as one control id, its text as characters.

        Raises:
            KeyError: a mark is not a control token of this vocabulary.
        """
        return [i for mark, text in segments for i in (self.control_id(mark), *self.encode(text))]

    def decode(self, ids: Iterable[int], *, show_controls: bool = False) -> str:
        """The text of `ids`, without control tokens unless asked for; `<UNK>` is always shown.

        Raises:
            KeyError: an id is not in this vocabulary, such as the -100 of a masked label.
        """
        hidden = set() if show_controls else self.controls.keys() - {self.unk_id}
        return "".join(self._token(i) for i in map(int, ids) if i not in hidden)

    def _token(self, i: int) -> str:
        token = self.backend.id_to_token(i) if i >= 0 else None
        if token is None:
            raise KeyError(f"id {i} is not one of this vocabulary's 0 to {len(self) - 1}")
        return token
