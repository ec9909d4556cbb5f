"""Write the repository's public address wherever the course needs it.

    python scripts/write_badges.py        `make badges` runs this

The address is that of git's remote `origin`. It goes into the badges at the top of the README and of each notebook,
and into each notebook's first code cell, which fetches the course where the notebook stands alone. If there is no
`origin`, or one that only some can reach, there is no badge, and the first cell says what to do instead.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import nbformat
from nbformat import NotebookNode

REPOSITORY = Path(__file__).resolve().parent.parent
SETUP = "setup"  # the tag of a notebook's first code cell
FIRST = "01_data_formatting.ipynb"  # where the README's badges lead

# https://host/path, ssh://git@host:port/path, git@host:path
HTTPS = re.compile(r"https?://(?:[^@/]*@)?(?P<host>[^/:]+)(?::\d+)?/(?P<path>[\w.~/-]+)")
SSH = re.compile(r"(?:ssh://)?[\w.-]+@(?P<host>[^/:]+)(?::\d+/|[:/])(?P<path>[\w.~/-]+)")
PUBLIC_HOST = re.compile(r"(?:[\w-]+\.)+[a-z]{2,}", re.IGNORECASE)  # a name with a dot: no localhost, no bare number
BADGES = re.compile(r"\A(# .*\n)(\n\[!\[.*\n)?")  # a heading, and the badges that may follow

IF_NEEDED = """\
import importlib.util

if importlib.util.find_spec("course_lib") is None:"""
FETCH = """{if_needed}  # this notebook stands alone: fetch the course
    %pip install --quiet git+{url}"""
EXPLAIN = """{if_needed}
    raise ModuleNotFoundError(
        "This notebook needs the folder it came in. Open it there with `make lab`, "
        "or type %pip install and the path of that folder in a cell of its own."
    )"""


@dataclass(frozen=True, slots=True)
class Address:
    """A public git repository: `host` and `path` make its web address, `branch` is the one a badge opens."""

    host: str
    path: str
    branch: str

    @property
    def url(self) -> str:
        """What a browser opens and what `git clone` takes."""
        return f"https://{self.host}/{self.path}"


def parse(remote: str, branch: str) -> Address | None:
    """The public address behind a git remote; None for a folder, a file or a machine without a public name.

    Whatever stands before the @ (a name, a password) is dropped.
    """
    match = HTTPS.fullmatch(remote) or SSH.fullmatch(remote)
    if not match or not PUBLIC_HOST.fullmatch(match["host"]):
        return None
    return Address(match["host"].lower(), match["path"].strip("/").removesuffix(".git"), branch)


def git(repository: Path, *arguments: str) -> str:
    """What a git command prints there, or "" if it fails."""
    asked = ["git", "-C", str(repository), *arguments]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def address_of(repository: Path) -> Address | None:
    """The public address of the remote `origin`, and its main branch as far as this clone knows it."""
    followed = git(repository, "symbolic-ref", "--short", "refs/remotes/origin/HEAD").removeprefix("origin/")
    branch = followed or git(repository, "branch", "--show-current") or "main"
    return parse(git(repository, "remote", "get-url", "origin"), branch)


def badges(address: Address | None, notebook: str) -> str:
    """The line of badges that open `notebook`, "" without an address. Colab reads GitHub alone, Binder any host."""
    if address is None:
        return ""
    branch, file = quote(address.branch, safe=""), quote(f"notebooks/{notebook}")
    on_github = address.host == "github.com"
    repository = f"gh/{address.path}" if on_github else f"git/{quote(address.url, safe='')}"
    links = {
        "Binder": ("mybinder.org/badge_logo.svg", f"mybinder.org/v2/{repository}/{branch}?urlpath=lab/tree/{file}")
    }
    if on_github:
        colab = "colab.research.google.com"
        links["Colab"] = (f"{colab}/assets/colab-badge.svg", f"{colab}/github/{address.path}/blob/{branch}/{file}")
    return " ".join(f"[![Open in {name}](https://{picture})](https://{to})" for name, (picture, to) in links.items())


def with_badges(text: str, line: str) -> str:
    """Markdown that begins with a heading, and `line` after it in place of the badges that were there.

    Raises:
        ValueError: it does not begin with a heading.
    """
    if not BADGES.match(text):
        raise ValueError(f"begins with {text[:30]!r}, not with a heading")
    return BADGES.sub(lambda match: match[1] + (f"\n{line}\n" if line else ""), text)


def setup_source(address: Address | None) -> str:
    """A notebook's first code cell: nothing happens where `course_lib` can be imported."""
    return (FETCH if address else EXPLAIN).format(if_needed=IF_NEEDED, url=address and address.url)


def write_notebook(notebook: NotebookNode, name: str, address: Address | None) -> None:
    """Give a notebook its badges and its first code cell, in place. All other cells stay as they are."""
    notebook.cells[0].source = with_badges(notebook.cells[0].source, badges(address, name))
    at = next(index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    if SETUP not in notebook.cells[at].metadata.get("tags", []):
        notebook.cells.insert(at, nbformat.v4.new_code_cell(id=SETUP, metadata={"tags": [SETUP]}))
    notebook.cells[at].source = setup_source(address)


def write(repository: Path) -> Address | None:
    """Write the address of this clone's `origin` into README and notebooks; what was written."""
    address = address_of(repository)
    readme = repository / "README.md"
    readme.write_text(with_badges(readme.read_text("utf-8"), badges(address, FIRST)), "utf-8", newline="\n")
    for path in sorted((repository / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        write_notebook(notebook, path.name, address)
        nbformat.write(notebook, path)
    return address


if __name__ == "__main__":
    written = write(REPOSITORY)
    print(
        written.url if written else "`origin` has no public address, so there are no badges: `git remote add origin …`"
    )
