"""The command `write`: a poem to the terminal, character by character, or many poems to a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from course_lib.commands.options import Asked, Device, Folder, Json, Refusal, choose_folder, note, option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from course_lib.generation import PoemStream, WrittenPoem
    from course_lib.tokenizer import CharacterTokenizer

Task = tuple[str, int]  # a title and a seed


def write(
    titles: Annotated[
        list[str] | None, typer.Argument(metavar="TITLE...", help="One poem is written for each.")
    ] = None,
    checkpoint: Folder = None,
    instruction: Asked = None,
    seed: Annotated[int, option(help="The same title and seed give the same poem.")] = 0,
    temperature: Annotated[float, option(help="0: always the likeliest; above 1: wild.")] = 0.8,
    top_p: Annotated[float, option(help="Draw among the likeliest that make up this share.")] = 0.95,
    top_k: Annotated[int, option(help="Draw among so many of the likeliest; 0: no limit.")] = 0,
    min_p: Annotated[float, option(help="Leave out what has less than this share of the likeliest's chance.")] = 0,
    presence_penalty: Annotated[
        float, option(help="How much to hold back characters and lines that the poem has already; 0: not at all.")
    ] = 2.0,
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

    A base model does not know where a poem ends and writes on to the limit. A line on stderr says why the poem ended.
    With --json, each poem is one line of JSON.

    With --out, poems go to a file. Poems that the file has already are not written again, so a command that was
    stopped goes on when you repeat it.
    """
    typed = [*(titles or []), *(read_lines(titles_file) if titles_file else [])]
    if not typed:
        raise Refusal("no title: name one or more, or a file of them with --titles")
    if any(not title.strip() for title in typed):
        raise Refusal("a title is blank: give it at least one character")
    from course_lib import generation
    from course_lib.checkpoints import WEIGHTS, load_checkpoint, sha256
    from course_lib.engine.machine import choose_device
    from course_lib.sampling import GenerationSettings

    settings = GenerationSettings(temperature, top_p, top_k, max_new_tokens, seed, min_p, presence_penalty)
    folder = choose_folder(checkpoint)
    opened = load_checkpoint(folder, choose_device(device))
    asked = opened.instruction(instruction) if instruction or opened.instructions else None
    tasks = list(dict.fromkeys(product(read_titles(typed, opened.tokenizer), range(seed, seed + count))))

    def poems(tasks: Sequence[Task]) -> Iterator[WrittenPoem]:
        titles, seeds = [title for title, _ in tasks], [seed for _, seed in tasks]
        return generation.iter_poems(opened, titles, settings, instruction=asked, seeds=seeds, candidates=candidates)

    if out is not None:
        made_with = {
            "weights": sha256(folder / WEIGHTS)[:12],
            "instruction": asked.name if asked else None,
            "candidates": candidates,
            **asdict(settings),
        }
        del made_with["seed"]  # each poem has its own
        left = [task for task in tasks if task not in read_back(out, made_with)]
        append(out, left, poems(left), made_with, already=len(tasks) - len(left))
        return
    for task in tasks:
        title, number = task
        if as_json:
            print(as_line(task, *poems([task])), flush=True)
            continue
        if len(typed) > 1:
            print(f"《{title}》")
        if candidates > 1:
            (best,) = poems([task])
            print(best.text, flush=True)
            note_end(best)
        else:
            show(generation.write(opened, title, replace(settings, seed=number), asked))


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without blank ones.

    Raises:
        Refusal: it is not text in UTF-8.
    """
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise Refusal(f"{path}: not a text file in UTF-8 ({error})") from error


def read_titles(typed: Sequence[str], tokenizer: CharacterTokenizer) -> list[str]:
    """The titles as the model gets them. A line on stderr says what was changed in a title.

    Raises:
        Refusal: a title cannot be used.
    """
    from course_lib.titles import read_title

    read = [read_title(title, tokenizer) for title in typed]
    for original, title in zip(typed, read, strict=True):
        if title.refused:
            raise Refusal(f"{original}: {title.message}")
        if title.message:
            note(f"{original}: {title.message}")
    return [title.title for title in read]


# --- to the terminal ------------------------------------------------------------------------------


def show(poem: PoemStream) -> None:
    """Print a poem while it is being written. Ctrl-C ends the poem and the program."""
    at_terminal = sys.stdout.isatty()
    try:
        for character in poem:
            print(character, end="", flush=at_terminal)
    except KeyboardInterrupt:
        print(flush=True)
        note(f"stopped by you after {count_characters(poem.text)} characters")
        raise typer.Exit(130) from None
    print(end="" if poem.text.endswith("\n") else "\n", flush=True)
    note_end(poem)


def note_end(poem: PoemStream | WrittenPoem) -> None:
    """Say on stderr why a poem ended."""
    how = "ended by itself" if poem.reason == "end" else "stopped"
    note(f"{how} after {count_characters(poem.text)} characters")


def count_characters(text: str) -> int:
    """The number of characters, line ends not counted."""
    return len(text.replace("\n", ""))


# --- to a file ------------------------------------------------------------------------------------


def as_line(task: Task, poem: WrittenPoem, **more: Any) -> str:
    """A poem as one line of JSON."""
    title, seed = task
    row = {"title": title, "seed": seed, "text": poem.text, "ended": poem.reason == "end", "reason": poem.reason}
    return json.dumps(row | more, ensure_ascii=False)


def append(
    out: Path, tasks: Sequence[Task], poems: Iterator[WrittenPoem], made_with: Mapping[str, Any], already: int
) -> None:
    """Add a line to the file for each poem, as soon as it is written."""
    from tqdm import tqdm

    bar = tqdm(total=already + len(tasks), initial=already, unit="poem", disable=None, leave=False)
    with out.open("a", encoding="utf-8") as file, bar:
        for task, poem in zip(tasks, poems, strict=True):
            print(as_line(task, poem, made_with=made_with), file=file, flush=True)
            bar.update()
    note(f"{len(tasks):,} poems written to {out}" + (f", {already:,} were there" if already else ""))


def read_back(out: Path, made_with: Mapping[str, Any]) -> set[Task]:
    """The poems that a file has already. A last line that a kill has cut short is removed from the file.

    Raises:
        Refusal: the file holds something else, or poems made with other settings than `made_with`.
    """
    raw = out.read_bytes() if out.exists() else b""
    *lines, cut = raw.split(b"\n")
    found: set[Task] = set()
    for number, line in enumerate(lines, start=1):
        try:
            poem = json.loads(line)
            found.add((poem["title"], poem["seed"]))
            before: dict[str, Any] = dict(poem["made_with"])
        except (ValueError, KeyError, TypeError) as error:
            raise Refusal(f"{out}, line {number}: not a poem of this command; name another file") from error
        if other := [f"{name} {value}" for name, value in before.items() if made_with.get(name) != value]:
            raise Refusal(
                f"{out}, line {number}: made with {', '.join(other)}; name another file, or the same settings"
            )
    if cut:
        if not cut.startswith(b'{"title": '[: len(cut)]):
            raise Refusal(f"{out}, line {len(lines) + 1}: not a poem of this command; name another file")
        os.truncate(out, len(raw) - len(cut))
    return found
