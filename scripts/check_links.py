"""Follow the links of README, notebooks and the other Markdown files.

    python scripts/check_links.py [--online]        `make links` runs it online

Without --online only links within the repository are followed: to files, and to headings of Markdown files.
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat

REPOSITORY = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(<?([^()\s<>]+)>?(?:\s+\"[^\"]*\")?\)|\b(?:href|src)=\"([^\"]+)\"")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)
SECONDS = 30


def prose(path: Path) -> str:
    """The Markdown of a file or of a notebook's cells, code left out."""
    if path.suffix != ".ipynb":
        return CODE.sub("", path.read_text("utf-8"))
    cells = nbformat.read(path, as_version=4).cells
    return CODE.sub("", "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))


def links(path: Path) -> list[str]:
    """Where the links and pictures of a file lead, in order, each once."""
    return list(dict.fromkeys(inline or attribute for inline, attribute in LINK.findall(prose(path))))


def anchors(path: Path) -> set[str]:
    """The names under which a Markdown file's headings can be linked to, formed as GitHub does."""
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in HEADING.findall(prose(path))}


def broken(path: Path, link: str) -> str | None:
    """Why a link within the repository leads nowhere, or None."""
    file, _, anchor = link.partition("#")
    target = (path.parent / unquote(file)).resolve() if file else path
    if not target.exists():
        return "there is no such file"
    if not target.is_relative_to(REPOSITORY):
        return "leads out of the repository"
    if anchor and target.suffix == ".md" and unquote(anchor) not in anchors(target):
        return "there is no such heading"
    return None


def unreachable(url: str) -> str | None:
    """Why an address on the web does not answer, or None. One that refuses robots (403, 429) counts as there."""
    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return None if error.code in (403, 429) else f"answers {error.code}"
    except (urllib.error.URLError, TimeoutError) as error:
        return f"does not answer ({error})"


def faults(paths: list[Path], *, online: bool) -> Iterator[str]:
    """A line for each link that leads nowhere."""
    asked: dict[str, str | None] = {}
    for path in paths:
        for link in links(path):
            if link.startswith(("http://", "https://")):
                if online and link not in asked:
                    asked[link] = unreachable(link)
                why = asked.get(link)
            else:
                why = broken(path, link)
            if why:
                yield f"{path.relative_to(REPOSITORY)}: {link}: {why}"


def main(online: bool) -> int:
    """Check every Markdown file and notebook of the course. The exit status."""
    trees = [REPOSITORY / name for name in ("assets", "benchmarks", "notebooks")]
    files = [*REPOSITORY.glob("*.md"), *(path for tree in trees for path in tree.rglob("*.*"))]
    found = {path for path in files if path.suffix in (".md", ".ipynb")}
    dead = list(faults(sorted(found), online=online))
    for line in dead:
        print(line, file=sys.stderr)
    return int(bool(dead))


if __name__ == "__main__":
    sys.exit(main("--online" in sys.argv[1:]))
