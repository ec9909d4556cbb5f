"""Check the links of the README, the notebooks and the other Markdown files.

    python scripts/check_links.py [--online]        `make links` runs it online

Without --online it checks only links within the repository: to files, and to headings of Markdown files.
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat

REPOSITORY = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(<?([^()\s<>]+)>?(?:\s+\"[^\"]*\")?\)|\b(?:href|src)=\"([^\"]+)\"")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)
SECONDS = 30


def prose(path: Path) -> str:
    """The Markdown of a file, or of the cells of a notebook, without code."""
    if path.suffix != ".ipynb":
        return CODE.sub("", path.read_text("utf-8"))
    cells = nbformat.read(path, as_version=4).cells
    return CODE.sub("", "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))


def links(path: Path) -> list[str]:
    """The targets of the links and pictures of a file, in order, each once."""
    return list(dict.fromkeys(inline or attribute for inline, attribute in LINK.findall(prose(path))))


def anchors(path: Path) -> set[str]:
    """The names that links use for the headings of a Markdown file, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in HEADING.findall(prose(path))}


def broken(path: Path, link: str, repository: Path) -> str | None:
    """What is wrong with a link of `path` to a file of the repository, or None."""
    file, _, anchor = link.partition("#")
    target = (path.parent / unquote(file)).resolve() if file else path
    if not target.exists():
        return "there is no such file"
    if not target.is_relative_to(repository):
        return "leads out of the repository"
    if anchor and target.suffix == ".md" and unquote(anchor) not in anchors(target):
        return "there is no such heading"
    return None


def unreachable(url: str) -> str | None:
    """What is wrong with an address on the web, or None. An address that refuses robots (403, 429) is good."""
    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return None if error.code in (403, 429) else f"answers {error.code}"
    except (urllib.error.URLError, TimeoutError) as error:
        return f"does not answer ({error})"


def faults(
    paths: list[Path], repository: Path = REPOSITORY, ask: Callable[[str], str | None] | None = None
) -> Iterator[str]:
    """A line for each link that leads nowhere. `ask` checks an address on the web; None leaves the web alone."""
    answers: dict[str, str | None] = {}
    for path in paths:
        for link in links(path):
            if not link.startswith(("http://", "https://")):
                reason = broken(path, link, repository)
            elif ask is None:
                reason = None
            else:
                if link not in answers:
                    answers[link] = ask(link)
                reason = answers[link]
            if reason:
                yield f"{path.relative_to(repository)}: {link}: {reason}"


def main(online: bool) -> int:
    """Check every Markdown file and notebook of the course. Returns the exit status."""
    trees = [REPOSITORY / name for name in ("assets", "benchmarks", "docs", "notebooks")]
    files = [*REPOSITORY.glob("*.md"), *(path for tree in trees for path in tree.rglob("*.*"))]
    pages = sorted(path for path in files if path.suffix in (".md", ".ipynb"))
    dead = list(faults(pages, ask=unreachable if online else None))
    for line in dead:
        print(line, file=sys.stderr)
    return int(bool(dead))


if __name__ == "__main__":
    sys.exit(main("--online" in sys.argv[1:]))
