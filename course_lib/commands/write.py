"""The command `write`: a poem to the terminal, character by character, or many poems to a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from course_lib import paths
from course_lib.commands.options import Asked, Device, Folder, Json, Refusal, asked_of, note, option
from course_lib.files import append_lines, claimed
from course_lib.language import say

if TYPE_CHECKING:
    from course_lib.generation import PoemStream, WrittenPoem
    from course_lib.tokenizer import CharacterTokenizer

Task = tuple[str, int]  # a title and a seed
ENDINGS = {
    "end": "ended by itself after {count} characters",
    "length": "stopped at the limit, after {count} characters",
    "stopped": "stopped by you after {count} characters",
}
PENALTY = "Avoid repeated characters and lines; 0: allow them. A model of your own data does not use it."
OTHER = "{out}, line {number}: not a poem of this command; name another file"


def write(
    titles: Annotated[list[str] | None, typer.Argument(metavar="TITLE...", help="What the poems are about.")] = None,
    checkpoint: Folder = None,
    instruction: Asked = None,
    seed: Annotated[int, option(help="The same title and seed give the same poem.")] = 0,
    temperature: Annotated[float, option(help="Higher is more surprising; 0: the likeliest characters.")] = 0.8,
    top_p: Annotated[float, option(help="Draw from the likeliest characters with this total probability.")] = 0.9,
    top_k: Annotated[int, option(help="Draw from this many of the likeliest characters; 0: no limit.")] = 0,
    min_p: Annotated[float, option(help="Leave out characters below this share of the highest probability.")] = 0,
    presence_penalty: Annotated[float, option(help=PENALTY)] = 4.0,
    max_new_tokens: Annotated[int, option(help="Stop after this many characters, line ends included.")] = 200,
    count: Annotated[int, option(min=1, help="Poems for each title; each has the next seed.")] = 1,
    candidates: Annotated[int, option(min=1, help="Write this many versions of a poem, and keep the best.")] = 1,
    titles_file: Annotated[Path | None, option("--titles", metavar="FILE", help="Titles, one on each line.")] = None,
    out: Annotated[Path | None, option(metavar="FILE", help="Write to this file, many poems at a time.")] = None,
    device: Device = None,
    as_json: Json = False,
    simple: Annotated[bool, option("--simplified", help="Show Simplified characters.")] = False,
) -> None:
    """Write a poem on each title, or what --instruction asks for.

    If the model was taught many, instructions can be joined, as in quatrain-7,rhyme=東.

    The poem appears character by character. Then a line on stderr says why it ended. A base model does not know where
    a poem ends: it goes on until --max-new-tokens.

    With --json, each poem is one line of JSON. With --out, these lines go to a file. If the command is stopped, repeat
    it: it writes only the poems that are not in the file yet.
    """
    typed = [*(titles or []), *(read_lines(titles_file) if titles_file else [])]
    if not typed:
        raise Refusal(say("no title: name one or more, or a file of them with --titles"))
    if any(not title.strip() for title in typed):
        raise Refusal(say("a title is blank: give it at least one character"))
    if simple and (as_json or out):
        raise Refusal(say("--simplified is for the terminal: leave out --json and --out"))
    from course_lib import generation
    from course_lib.checkpoints import WEIGHTS, load_checkpoint, sha256
    from course_lib.engine.machine import choose_device
    from course_lib.sampling import GenerationSettings
    from course_lib.titles import simplified, unknown_notes

    if out and out.exists() and not out.is_file():
        raise Refusal(say("{out}: no plain file, so a stopped command could not go on; use --json instead", out=out))
    settings = GenerationSettings(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, seed=seed)
    settings = replace(settings, presence_penalty=presence_penalty, max_new_tokens=max_new_tokens)
    folder = paths.own_or_shipped(checkpoint)
    opened = load_checkpoint(folder, choose_device(device))
    asked = asked_of(opened, instruction) if instruction or opened.instructions else None
    for remark in unknown_notes(asked.wording if asked else "", opened.tokenizer):
        note(remark)
    given = read_titles(typed, asked.given if asked else "title", opened.tokenizer)
    tasks = list(dict.fromkeys(product(given, range(seed, seed + count))))
    if not checkpoint:
        note(say("{folder} is used", folder=folder))

    def poems(tasks: Sequence[Task]) -> Iterator[WrittenPoem]:
        titles, seeds = [title for title, _ in tasks], [seed for _, seed in tasks]
        return generation.iter_poems(opened, titles, settings, instruction=asked, seeds=seeds, candidates=candidates)

    if out:
        made_with = {"weights": sha256(folder / WEIGHTS)[:12], "instruction": asked.name if asked else None}
        shared = {name: value for name, value in asdict(settings).items() if name != "seed"}
        append(out, tasks, poems, {**made_with, "candidates": candidates, **shared})
        return
    for title, number in tasks:
        if as_json:
            print(as_line((title, number), *poems([(title, number)])), flush=True)
            continue
        if len(typed) > 1:
            print(f"《{simplified(title) if simple else title}》")
        poem = generation.write(opened, title, replace(settings, seed=number), asked, candidates)
        show(poem, simplified if simple else None)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file or of a pipe, without blank ones."""
    if path.is_char_device() or path.is_block_device():
        raise Refusal(say("{path}: a device, not a file of titles", path=path))
    if path.is_fifo():
        note(say("{path}: a pipe; waiting for its titles", path=path))
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise Refusal(say("{path}: not a text file in UTF-8 ({error})", path=path, error=error)) from error


def read_titles(typed: Sequence[str], given: str, tokenizer: CharacterTokenizer) -> list[str]:
    """The titles, or what else is given, as the model gets them. A line on stderr says what was changed."""
    from course_lib.titles import read_given

    read = [read_given(title, given, tokenizer) for title in typed]
    for original, title in zip(typed, read, strict=True):
        said = say("{it}: {said}", it=original, said=title.message)
        if title.refused:
            raise Refusal(said)
        if title.message:
            note(said)
    return [title.title for title in read]


def show(poem: PoemStream, script: Callable[[str], str] | None = None) -> None:
    """Print a poem, in another script if one is given, while it is being written. Ctrl-C ends poem and program."""
    at_terminal = sys.stdout.isatty()
    try:
        for characters in [script("".join(poem))] if script else poem:  # whole: a character depends on those beside it
            print(characters, end="", flush=at_terminal)
    except KeyboardInterrupt:
        print(flush=True)
        note_end(poem.text, "stopped")
        raise typer.Exit(130) from None
    print(end="" if poem.text.endswith("\n") else "\n", flush=True)
    note_end(poem.text, poem.reason or "length")


def note_end(text: str, reason: str) -> None:
    """Say on stderr why a poem ended, and after how many characters, line ends not counted."""
    note(say(ENDINGS[reason], count=len(text.replace("\n", ""))))


# --- to a file ------------------------------------------------------------------------------------


def as_line(task: Task, poem: WrittenPoem, **more: Any) -> str:
    """A poem as one line of JSON."""
    title, seed = task
    row = {"title": title, "seed": seed, "text": poem.text, "ended": poem.reason == "end", "reason": poem.reason}
    return json.dumps(row | more, ensure_ascii=False)


def append(
    out: Path,
    tasks: Sequence[Task],
    write: Callable[[Sequence[Task]], Iterator[WrittenPoem]],
    made_with: Mapping[str, Any],
) -> None:
    """Write the poems that the file does not have yet, and add a line for each as soon as it is written."""
    from tqdm import tqdm

    if not out.parent.is_dir():
        note(say("{folder}: a new folder", folder=out.parent))  # its name may be a slip
    out.parent.mkdir(parents=True, exist_ok=True)
    with claimed(out):
        done = read_back(out, made_with)
        left = [task for task in tasks if task not in done]
        there = len(tasks) - len(left)
        append_lines(out, ())  # before anything slow begins
        with tqdm(total=len(tasks), initial=there, unit="poem", disable=None, leave=False) as bar:
            for task, poem in zip(left, write(left), strict=True):
                append_lines(out, [as_line(task, poem, made_with=made_with)])
                bar.update()
    written = say("{count:,} poems written to {out}", count=len(left), out=out)
    if len(left) == 1:
        written = say("1 poem written to {out}", out=out)
    note(written + (say(", {count:,} were there", count=there) if there else ""))


def read_back(out: Path, made_with: Mapping[str, Any]) -> set[Task]:
    """The poems that a file has already. If a kill has cut the last line short, it is removed from the file."""
    raw = out.read_bytes() if out.exists() else b""
    *lines, cut = raw.split(b"\n")
    found: set[Task] = set()
    for number, line in enumerate(lines, start=1):
        try:
            poem = json.loads(line)
            found.add((poem["title"], poem["seed"]))
            before: dict[str, Any] = dict(poem["made_with"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Refusal(say(OTHER, out=out, number=number)) from error
        if differs := ", ".join(f"{name} {value}" for name, value in before.items() if made_with.get(name) != value):
            n = {"out": out, "n": number, "differs": differs}
            raise Refusal(say("{out}, line {n}: made with {differs}; name another file, or the same settings", **n))
    if not b'{"title": '.startswith(cut[:10]):
        raise Refusal(say(OTHER, out=out, number=len(lines) + 1))
    if cut:
        os.truncate(out, len(raw) - len(cut))
    return found
