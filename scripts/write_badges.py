"""Write the public address of the repository wherever the course needs it.

    python scripts/write_badges.py        `make badges` runs this

The address is that of git's remote `origin`. It goes into the badges of both READMEs and of the notebooks. It also goes
into the first code cell of each notebook, which installs the course if the notebook was opened without it. Without a
public `origin` there are no badges, and the first cell says what to do instead.
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
FIRST = "01_data_formatting.ipynb"
OPENED = {"README.md": FIRST, "README.zh-CN.md": f"zh/{FIRST}"}  # what the badges of a README open

# https://host/path, ssh://git@host:port/path, git@host:path
HTTPS = re.compile(r"https?://(?:[^@/]*@)?(?P<host>[^/:]+)(?::\d+)?/(?P<path>[\w.~/-]+)")
SSH = re.compile(r"(?:ssh://)?[\w.-]+@(?P<host>[^/:]+)(?::\d+/|[:/])(?P<path>[\w.~/-]+)")
PUBLIC_HOST = re.compile(r"(?:[\w-]+\.)+[a-z]{2,}", re.IGNORECASE)  # a name with a dot; not localhost, not a number
BADGES = re.compile(r"\A(# .*\n)(\n\[!\[.*\n)?")  # a heading, and perhaps a line of badges

FETCH = """\
import importlib.util

if importlib.util.find_spec("course_lib") is None:  # this notebook stands alone
    # On Kaggle, first switch on the internet: Settings, Internet.
    %pip install --quiet git+{url}"""
CHINESE = """\
import importlib.util
import os

os.environ.setdefault("COURSE_LANG", "zh")  # on Colab and Kaggle, the folder does not tell the language"""
EXPLAIN = """\
import importlib.util
from pathlib import Path

if importlib.util.find_spec("course_lib") is None:
    here = [up for up in ("..", "../..") if Path(up, "pyproject.toml").is_file()]
    raise ModuleNotFoundError(
        "This kernel does not have the course. Choose the kernel of its .venv, "
        f"or type %pip install --editable {here[0]} in a new cell and run it."
        if here
        else "This notebook stands alone. Type %pip install git+ADDRESS in a new cell, "
        "with the address of the course's repository. (On Kaggle, first switch on the "
        "internet: Settings, Internet.)"
    )"""


@dataclass(frozen=True, slots=True)
class Address:
    """A public git repository, at https://`host`/`path`. Badges open its `branch`."""

    host: str
    path: str
    branch: str

    @property
    def url(self) -> str:
        """The address for a browser and for `git clone`."""
        return f"https://{self.host}/{self.path}"


def parse(remote: str, branch: str) -> Address | None:
    """The public address of a git remote; None for a folder, a file or a machine without a public name.

    A name or a password in front of the @ is left out.
    """
    match = HTTPS.fullmatch(remote) or SSH.fullmatch(remote)
    if not match or not PUBLIC_HOST.fullmatch(match["host"]):
        return None
    return Address(match["host"].lower(), match["path"].strip("/").removesuffix(".git"), branch)


def git(repository: Path, *arguments: str) -> str:
    """The output of a git command in `repository`, or "" if it fails."""
    asked = ["git", "-C", str(repository), *arguments]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def address_of(repository: Path) -> Address | None:
    """The public address of the remote `origin`, with its main branch, or else the branch of this clone."""
    followed = git(repository, "symbolic-ref", "--short", "refs/remotes/origin/HEAD").removeprefix("origin/")
    branch = followed or git(repository, "branch", "--show-current") or "main"
    return parse(git(repository, "remote", "get-url", "origin"), branch)


def badges(address: Address | None, notebook: str) -> str:
    """The line of badges that open `notebook`, "" without an address. Colab opens notebooks only from GitHub."""
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
    """The Markdown `text` with `line` after its first heading, in place of the old badges.

    Raises:
        ValueError: the text does not begin with a heading.
    """
    if not BADGES.match(text):
        raise ValueError(f"begins with {text[:30]!r}, not with a heading")
    return BADGES.sub(lambda match: match[1] + (f"\n{line}\n" if line else ""), text)


def setup_source(address: Address | None, name: str = FIRST) -> str:
    """The first code cell of the notebook `name`. If `course_lib` can be imported, it sets the language at most."""
    if address is None:
        return EXPLAIN
    source = FETCH.format(url=address.url)
    return source.replace("import importlib.util\n", f"{CHINESE}\n", 1) if name.startswith("zh/") else source


def write_notebook(notebook: NotebookNode, name: str, address: Address | None) -> None:
    """Write the badges and the first code cell of a notebook, in place. All other cells stay as they are."""
    notebook.cells[0].source = with_badges(notebook.cells[0].source, badges(address, name))
    at = next(index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    if SETUP not in notebook.cells[at].metadata.get("tags", []):
        notebook.cells.insert(at, nbformat.v4.new_code_cell(id=SETUP, metadata={"tags": [SETUP]}))
    notebook.cells[at].source = setup_source(address, name)


def write(repository: Path) -> Address | None:
    """Write the address of this clone's `origin` into the READMEs and the notebooks. Returns the address."""
    address = address_of(repository)
    for name, opened in OPENED.items():
        readme = repository / name
        readme.write_text(with_badges(readme.read_text("utf-8"), badges(address, opened)), "utf-8", newline="\n")
    notebooks = repository / "notebooks"
    for path in sorted([*notebooks.glob("*.ipynb"), *notebooks.glob("zh/*.ipynb")]):
        notebook = nbformat.read(path, as_version=4)
        write_notebook(notebook, path.relative_to(notebooks).as_posix(), address)
        nbformat.write(notebook, path)
    return address


if __name__ == "__main__":
    address = write(REPOSITORY)
    print(
        address.url if address else "`origin` has no public address, so there are no badges: `git remote add origin …`"
    )
