"""Text to ids and back: one token for each character.

Only this module makes the ids of special tokens, and only from the first part of a segment. `encode("<EOS>")` gives
five ordinary characters: what a person types can neither end the poem nor change roles.
The vocabulary is a `tokenizer.json` of the `tokenizers` library, which `transformers` also opens.
"""

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from course_lib.roles import END, ROLE_TOKENS, Segment

PAD, UNK = "<PAD>", "<UNK>"
BASE_TOKENS = (PAD, UNK, END)
ALWAYS_KNOWN = "\n，。？！；：、「」" + string.printable[:95]  # so a typed "<INS>" is five characters
MIN_COUNT = 5  # a character seen less often has too few examples to be learned


class CharacterTokenizer:
    """A `tokenizers.Tokenizer` that never takes typed text for a special token. `special_tokens` is id -> token."""

    def __init__(self, backend: Tokenizer) -> None:
        self.backend = backend
        self._ids = backend.get_vocab(with_added_tokens=False)  # character -> id
        self._read_special_tokens()
        self.pad_id, self.unk_id, self.eos_id = (self.special_token_id(token) for token in BASE_TOKENS)

    @classmethod
    def train(cls, texts: Iterable[str], min_count: int = MIN_COUNT) -> Self:
        """A tokenizer for every character that occurs at least `min_count` times, the most frequent first."""
        counts = Counter[str]()
        for text in texts:
            counts.update(text)
        counts.update(dict.fromkeys(ALWAYS_KNOWN, min_count))
        known = sorted((c for c, n in counts.items() if n >= min_count), key=lambda c: (-counts[c], c))
        vocabulary = {token: i for i, token in enumerate((*BASE_TOKENS, *known))}
        backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
        backend.decoder = decoders.Fuse()
        backend.add_special_tokens(list(BASE_TOKENS))
        return cls(backend)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The tokenizer in a `tokenizer.json`."""
        return cls(Tokenizer.from_file(str(path)))

    def save(self, path: Path) -> None:
        """Write a `tokenizer.json`."""
        self.backend.save(str(path))

    def copy(self) -> Self:
        """An independent copy: tokens added to one are not added to the other."""
        return type(self)(Tokenizer.from_str(self.backend.to_str()))

    def __len__(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    def _read_special_tokens(self) -> None:
        self.special_tokens = {i: token.content for i, token in self.backend.get_added_tokens_decoder().items()}
        self._special_ids = {token: i for i, token in self.special_tokens.items()}
        self._tokens = {i: token for token, i in self.backend.get_vocab().items()}

    @property
    def has_roles(self) -> bool:
        """Whether the role tokens have been added."""
        return set(ROLE_TOKENS) <= self._special_ids.keys()

    def special_token_id(self, token: str) -> int:
        """The id of a special token. Raises KeyError if the vocabulary does not have it."""
        if token not in self._special_ids:
            raise KeyError(f"this vocabulary has no special token {token!r}; add_role_tokens() adds the roles")
        return self._special_ids[token]

    def add_role_tokens(self, tokens: Sequence[str] = ROLE_TOKENS) -> list[int]:
        """Add special tokens after all other ids. Returns their ids; a token that is already there keeps its own.

        `course_lib.checkpoints.grow_embedding` gives the model's embedding a row for each. Raises ValueError if a
        token is a character of the vocabulary, because typing it would give the special token.
        """
        for token in tokens:
            if token in self._ids and token not in self._special_ids:
                raise ValueError(f"{token!r} is a character of this vocabulary: choose a token of two or more")
        self.backend.add_special_tokens(list(tokens))
        self._read_special_tokens()
        return [self.special_token_id(token) for token in tokens]

    def encode(self, text: str) -> list[int]:
        """One id for each character. An unknown character becomes `<UNK>`; a typed `<EOS>` stays text."""
        return [self._ids.get(character, self.unk_id) for character in text]

    def encode_segments(self, segments: Iterable[Segment]) -> list[int]:
        """The ids of segments: each special token as one id, then its text. Raises KeyError for an unknown token."""
        return [i for token, text in segments for i in (self.special_token_id(token), *self.encode(text))]

    def decode(self, ids: Iterable[int], *, show_special_tokens: bool = False) -> str:
        """The text of `ids`. Special tokens are left out by default, except `<UNK>`.

        Raises KeyError if an id is not in this vocabulary, such as the -100 of a masked label.
        """
        hidden = set() if show_special_tokens else self.special_tokens.keys() - {self.unk_id}
        try:
            return "".join(self._tokens[i] for i in map(int, ids) if i not in hidden)
        except KeyError as wrong:
            raise KeyError(f"id {wrong} is not in this vocabulary, whose ids are 0 to {len(self) - 1}") from None
