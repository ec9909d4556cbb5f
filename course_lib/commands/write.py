"""The command that writes: a poem to the terminal as it comes, or poems by the thousand to a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from course_lib.commands.options import Device, Folder, Json, Refusal, choose_checkpoint, note, open_checkpoint, option

if TYPE_CHECKING:
    from course_lib.checkpoints import Checkpoint
    from course_lib.generation import GenerationSettings, Reason, Writing

Task = tuple[str, int]  # a title and a seed


def write(
    titles: Annotated[
        list[str] | None, typer.Argument(metavar="TITLE...", help="One poem is written for each.")
    ] = None,
    checkpoint: Folder = None,
    seed: Annotated[int, option(help="The same title and seed give the same poem.")] = 0,
    temperature: Annotated[float, option(help="0: always the likeliest; above 1: wild.")] = 0.8,
    top_p: Annotated[float, option(help="Draw among the likeliest that make up this share.")] = 0.95,
    top_k: Annotated[int, option(help="Draw among so many of the likeliest; 0: no limit.")] = 0,
    min_p: Annotated[float, option(help="Leave out what has less than this share of the likeliest's chance.")] = 0,
    repeat_lines: Annotated[bool, option("--repeat-lines", help="Let a poem say the same line twice.")] = False,
    presence_penalty: Annotated[float, option(help="How much to hold back characters the poem has already.")] = 2.0,
    max_new_tokens: Annotated[int, option(help="Stop after so many characters at the latest.")] = 200,
    count: Annotated[int, option(min=1, help="Poems for each title, with seeds counted up.")] = 1,
    candidates: Annotated[int, option(min=1, help="Write so many for each poem, and keep the best.")] = 1,
    titles_file: Annotated[
        Path | None, option("--titles", metavar="FILE", help="More titles, one a line.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        option(metavar="FILE", help="Write JSON lines there, many at once; go on where it ends.", show_default=False),
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write a poem on a title, character by character.

    A base model does not know where a poem ends and writes on to the limit. Why it stopped is said on stderr.
    With --json, each poem is one line of JSON.

    With --out, poems go to a file, and what is in it already is not written again: a command that was stopped
    goes on when it is given once more.
    """
    typed = [*(titles or []), *(read_lines(titles_file) if titles_file else [])]
    if not typed:
        raise Refusal("no title: name one or more, or a file of them with --titles")
    if any(not title.strip() for title in typed):
        raise Refusal("a title is blank: give it at least one character")
    from course_lib.generation import GenerationSettings

    settings = GenerationSettings(
        temperature, top_p, top_k, max_new_tokens, seed, min_p, repeat_lines, presence_penalty
    )
    opened = open_checkpoint(checkpoint, device)
    tasks = list(dict.fromkeys(product(read_titles(typed, opened), range(seed, seed + count))))
    if out is not None:
        write_to_file(out, tasks, opened, settings, candidates, choose_checkpoint(checkpoint))
        return
    for title, number in tasks:
        if not as_json and len(typed) > 1:
            print(f"《{title}》")
        write_here(opened, title, replace(settings, seed=number), candidates, as_json)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, blank ones left out.

    Raises:
        Refusal: it is not text in UTF-8.
    """
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise Refusal(f"{path}: not a text file in UTF-8 ({error})") from error


def read_titles(typed: Sequence[str], checkpoint: Checkpoint) -> list[str]:
    """The titles as the model gets them; what was done to one is said on stderr.

    Raises:
        Refusal: one of them is of no use.
    """
    from course_lib.titles import read_title

    read = [read_title(title, checkpoint.tokenizer) for title in typed]
    for original, title in zip(typed, read, strict=True):
        if title.refused:
            raise Refusal(f"{original}: {title.message}")
    for original, title in zip(typed, read, strict=True):
        if title.message:
            note(f"{original}: {title.message}")
    return [title.title for title in read]


# --- to the terminal ------------------------------------------------------------------------------


def write_here(
    checkpoint: Checkpoint, title: str, settings: GenerationSettings, candidates: int, as_json: bool
) -> None:
    """Write one poem to stdout: as it comes, unless it has to be compared with others first."""
    from course_lib.generation import write as begin
    from course_lib.generation import write_many

    if as_json or candidates > 1:
        (written,) = write_many(checkpoint, [title], settings, candidates=candidates)
        if as_json:
            print(as_line(title, settings.seed, written.text, written.reason), flush=True)
            return
        print(written.text, flush=True)
        say_how_it_ended(written.text, written.reason)
    else:
        show(begin(checkpoint, title, settings))


def show(writing: Writing) -> None:
    """Print a poem as it comes, and say on stderr why it stopped. Ctrl-C ends it, and the program."""
    at_terminal = sys.stdout.isatty()
    try:
        for character in writing:
            print(character, end="", flush=at_terminal)
    except KeyboardInterrupt:
        print(flush=True)
        note(f"stopped by you after {count(writing.text)} characters")
        raise typer.Exit(130) from None
    print(end="" if writing.text.endswith("\n") else "\n", flush=True)
    say_how_it_ended(writing.text, writing.reason)


def say_how_it_ended(text: str, reason: Reason | None) -> None:
    """One line on stderr."""
    note(f"{'ended by itself' if reason == 'end' else 'stopped'} after {count(text)} characters")


def as_line(title: str, seed: int, text: str, reason: Reason, **more: Any) -> str:
    """A poem as one line of JSON."""
    told = {"title": title, "seed": seed, "text": text, "ended": reason == "end", "reason": reason}
    return json.dumps(told | more, ensure_ascii=False)


# --- to a file ------------------------------------------------------------------------------------


def write_to_file(
    out: Path,
    tasks: Sequence[Task],
    checkpoint: Checkpoint,
    settings: GenerationSettings,
    candidates: int,
    folder: Path,
) -> None:
    """Append to `out` what it does not have yet, each poem as soon as it is there."""
    from tqdm import tqdm

    from course_lib.checkpoints import WEIGHTS, sha256
    from course_lib.generation import write_each

    how = {"weights": sha256(folder / WEIGHTS)[:12], "candidates": candidates, **asdict(settings)}
    del how["seed"]
    there = read_back(out, how)
    left = [task for task in tasks if task not in there]
    titles, seeds = [title for title, _ in left], [seed for _, seed in left]
    poems = write_each(checkpoint, titles, settings, seeds=seeds, candidates=candidates)
    old = len(tasks) - len(left)
    bar = tqdm(total=len(tasks), initial=old, unit="poem", disable=None, leave=False)
    with out.open("a", encoding="utf-8") as file, bar:
        for (title, seed), written in zip(left, poems, strict=True):
            print(as_line(title, seed, written.text, written.reason, made_with=how), file=file, flush=True)
            bar.update()
    note(f"{len(left):,} poems written to {out}" + (f", {old:,} were there" if old else ""))


def read_back(out: Path, how: dict[str, Any]) -> set[Task]:
    """What a file of poems has already. A last line that was cut short, by a kill, is taken off it.

    Raises:
        Refusal: the file holds something else, or poems made in another way than `how`.
    """
    raw = out.read_bytes() if out.exists() else b""
    *lines, cut = raw.split(b"\n")
    there: set[Task] = set()
    for number, line in enumerate(lines, start=1):
        try:
            poem = json.loads(line)
            there.add((poem["title"], poem["seed"]))
            made_with: dict[str, Any] = dict(poem["made_with"])
        except (ValueError, KeyError, TypeError) as error:
            raise Refusal(f"{out}, line {number}: not a poem of this command; name another file") from error
        if other := [f"{name} {was}" for name, was in made_with.items() if how.get(name) != was]:
            raise Refusal(
                f"{out}, line {number}: made with {', '.join(other)}; name another file, or the same settings"
            )
    if cut:
        if not cut.startswith(b'{"title": '[: len(cut)]):
            raise Refusal(f"{out}, line {len(lines) + 1}: not a poem of this command; name another file")
        os.truncate(out, len(raw) - len(cut))
    return there


def count(text: str) -> int:
    """The characters of a text, line ends apart."""
    return len(text.replace("\n", ""))
