"""Build the site to read, in build/site: both editions with their outputs, the pages of docs/, and the reference.

    python scripts/build_site.py [--out build/site]        `make site` runs this

Any web server can serve the folder: `python -m http.server --directory build/site`. A reader's browser fetches nothing
from elsewhere. If build/poem is there, it becomes the page poem/ of the site: `make poem-page` builds it.
"""

import argparse
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from write_badges import SETUP, Address, address_of, badges, with_badges

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = ("notebooks/*.ipynb", "notebooks/zh/*.ipynb", "docs/*.md", "benchmarks/README.md")
PICTURES = ("assets/figures/**/*.svg", "assets/pictures/*")
LANDING = ("index.md", "zh.md")  # the first pages, in place of the READMEs
GLOSSARY = "docs/glossary.md"  # both languages; here its Chinese half is a page of its own
BADGE = re.compile(r"!\[(Open in \w+)\]\([^)]*\)")  # a picture on another host
ON_SETUP = re.compile(r"\n\n（(?:如果)?下一格报错.*）$")  # said of the setup cell, which is left out
TREE = re.compile(r"^```\ncourse_lib/\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BRANCH = re.compile(r"^( +)(\w+)(\.py|/) +(\S.*)$", re.MULTILINE)


def matching(repository: Path, *patterns: str) -> list[str]:
    """The files that match a pattern, as paths from the folder of the repository."""
    found = (path for pattern in patterns for path in repository.glob(pattern))
    return sorted(path.relative_to(repository).as_posix() for path in found)


def relative(to: str, page: str) -> str:
    """The path from a page to another file of the site."""
    return posixpath.relpath(to, posixpath.dirname(page) or ".")


def is_chinese(page: str) -> bool:
    """Whether a page is written in Chinese."""
    return page == "zh.md" or "/zh/" in page or page.endswith(".zh-CN.md")


def twin(page: str, repository: Path) -> str:
    """The page in the other language; if there is none, the first page in that language."""
    if is_chinese(page):
        other = page.replace("/zh/", "/").replace(".zh-CN.md", ".md")
    else:
        other = page.replace("notebooks/", "notebooks/zh/").replace(".md", ".zh-CN.md")
    return other if (repository / other).is_file() or page == GLOSSARY else "index.md" if is_chinese(page) else "zh.md"


def top_line(page: str, repository: Path, address: Address | None) -> str:
    """The line below the title of a page: the page in the other language, and the hosts that run a notebook."""
    name = page.removeprefix("notebooks/")
    line = f"{{.top-line}}\n[{'English' if is_chinese(page) else '中文'}]({relative(twin(page, repository), page)})"
    if address and name != page:
        line += " · " + BADGE.sub(r"\1", badges(address, name)).replace(") [", ") · [")
        if address.host == "github.com":
            line += f" · [Open in Codespaces](https://codespaces.new/{address.path})"
    return line


def collect(source: Path, repository: Path, address: Address | None) -> None:
    """Write all pages of the site into the empty folder `source`, for Sphinx to read."""
    shutil.copytree(repository / "site" / "book", source, dirs_exist_ok=True)
    for name in matching(repository, *PICTURES):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, source / name)
    for page in [*LANDING, *matching(repository, *PAGES)]:
        path = source / page
        path.parent.mkdir(parents=True, exist_ok=True)
        origin = path if path.is_file() else repository / page
        if path.suffix == ".md":
            text = origin.read_text("utf-8")
            if f"]({relative(twin(page, repository), page)})" not in text:
                text = with_badges(text, top_line(page, repository, address))
            path.write_text(text, "utf-8", newline="\n")
            continue
        notebook = nbformat.read(origin, as_version=4)
        notebook.cells = [cell for cell in notebook.cells if SETUP not in cell.metadata.get("tags", [])]
        for cell in notebook.cells:
            cell.source = ON_SETUP.sub("", cell.source)
        notebook.cells[0].source = with_badges(notebook.cells[0].source, top_line(page, repository, address))
        nbformat.write(notebook, path)
    if (source / GLOSSARY).is_file():
        write_chinese_glossary(source)
    write_reference(source / "reference", (repository / "README.md").read_text("utf-8"))


def write_chinese_glossary(source: Path) -> None:
    """Write the glossary from Chinese to English, and link the Chinese pages to it."""
    _, _, terms, verse = (source / GLOSSARY).read_text("utf-8").split("\n## ")
    verse = re.sub(r"^\|(.*?)\|(.*?)\|.*?\|(.*?)\|$", r"|\2|\1|\3|", verse, flags=re.MULTILINE)
    page = f"# 术语表\n\n{{.top-line}}\n[English](glossary.md)\n\n## {terms}\n## {verse.removeprefix('Verse · ')}"
    (source / "docs" / "glossary.zh-CN.md").write_text(page, "utf-8", newline="\n")
    for path in (source / name for name in matching(source, "zh.md", "notebooks/zh/*.ipynb", "docs/*.zh-CN.md")):
        path.write_text(
            path.read_text("utf-8").replace("docs/glossary.md", "docs/glossary.zh-CN.md"), "utf-8", newline="\n"
        )


def write_reference(folder: Path, readme: str) -> None:
    """Write a page for each module and each folder of the tree in the README, in the order of the tree."""
    (tree,) = TREE.findall(readme)
    titles, comments, room = {"index": "Reference"}, {}, ""
    for indent, stem, end, comment in BRANCH.findall(tree):
        room = f"{stem}/" if end == "/" else room if len(indent) > 4 else ""
        page = f"{room}index" if end == "/" else room + stem
        titles[page], comments[page] = stem + end, comment
    for page, title in titles.items():
        text = "{}\n{}\n\n".format(title.replace("_", r"\_"), "=" * 40)  # rst gives some underscores a meaning
        module = "course_lib/" + page.removesuffix("index")
        text += f".. automodule:: {module.strip('/').replace('/', '.')}\n"
        if below := [it for it in comments if parent(it) == page]:
            text += "".join(f"\n:doc:`{titles[it]} </reference/{it}>`\n   {comments[it]}\n" for it in below)
            text += "\n.. toctree::\n   :hidden:\n\n" + "".join(f"   /reference/{it}\n" for it in below)
        else:  # a folder hands on names of its modules, and they are described there
            text += "   :members:\n"
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{page}.rst").write_text(text, "utf-8", newline="\n")


def parent(page: str) -> str:
    """The page of the folder that a page of the reference is in."""
    return posixpath.join(posixpath.dirname(page.removesuffix("/index")), "index")


def build(out: Path, repository: Path = REPOSITORY) -> int:
    """Build the site in `out`, in place of an older one there. Returns Sphinx's exit status; a warning is an error.

    Raises:
        SystemExit: `out` or the folder beside it for the source holds something that is not from an earlier build.
    """
    source = out.with_name(f"{out.name}-source")
    begun = (source / "conf.py").is_file()  # a build that was stopped has no searchindex.js
    for folder, is_ours in ((source, begun), (out, begun or (out / "searchindex.js").is_file())):
        if folder.exists() and any(folder.iterdir()) and not is_ours:
            raise SystemExit(f"{folder}: this folder is not from an earlier build; name another one with --out")
    for folder in (source, out):
        shutil.rmtree(folder, ignore_errors=True)
    address = address_of(repository)
    collect(source, repository, address)
    poem = repository / "build" / "poem"
    has_poem = ["-t", "poem"] if (poem / "index.html").is_file() else []
    options = ["--quiet", "--fail-on-warning", "--keep-going", "-d", str(source / ".doctrees"), *has_poem]
    files = f"{address.url}/blob/{address.branch}" if address else ""
    options += ["-D", f"repository={repository}", "-D", f"address={files}"]
    asked = [sys.executable, "-m", "sphinx", *options, str(source), str(out)]
    done = subprocess.run(asked, cwd=repository, check=False)
    if has_poem:
        shutil.copytree(poem, out / "poem", dirs_exist_ok=True)
    return done.returncode


def main() -> int:
    """Build the site, and print where it is. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Build the site to read.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "site", help="the folder of the site")
    out = parser.parse_args().out.resolve()
    status = build(out)
    if status == 0:
        print(f"{out / 'index.html'}. To see it: python -m http.server --directory {out}")
    return status


if __name__ == "__main__":
    sys.exit(main())
