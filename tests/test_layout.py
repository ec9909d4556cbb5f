"""The tree in README.md lists every module of `course_lib`, and a module imports only modules above it."""

import ast
import re
from pathlib import Path

import pytest

CORRIDOR = ("poems.py", "generation.py")  # the first and the last module of the lesson
LONGEST_CORRIDOR, LONGEST = 2_160, 9_600  # lines


def tree(readme: str) -> list[str]:
    """The files of the tree, in its order. A folder stands for its `__init__.py`, after all modules of the folder.

    Raises:
        AssertionError: a line has no file, no comment, or a wrong indentation.
    """
    block = re.findall(r"^```\ncourse_lib/\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert len(block) == 1, "README.md has one tree of course_lib/"
    files, folder = ["__init__.py"], ""
    for line in block[0].splitlines():
        found = re.fullmatch(r"(    |        )(\w+(?:\.py|/)) +(\S.*)", line)
        assert found, f"a line of the tree is not `file   comment`: {line!r}"
        indentation, name, _ = found.groups()
        if len(indentation) == 4:
            files += [f"{folder}__init__.py"] * bool(folder)
            folder = name if name.endswith("/") else ""
        assert len(indentation) == 4 or folder, f"{name} is indented, but is in no folder"
        if not name.endswith("/"):
            files.append(folder + name)
    return files + [f"{folder}__init__.py"] * bool(folder)


def imported(source: str, package: Path) -> set[str]:
    """The files of `package` that a module imports, wherever in the module the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written with the full name of the package"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {file for name in names if (file := file_of(name, package))}
    return found


def file_of(name: str, package: Path) -> str | None:
    """The file that `a.b.c` is in: the module of this name, or the module that has `c`. None for other packages."""
    top, *parts = name.split(".")
    if top != package.name:
        return None
    while parts:
        path = package.joinpath(*parts)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file.relative_to(package).as_posix()
        parts.pop()
    return "__init__.py"


def climbs(order: list[str], package: Path) -> list[str]:
    """One line for each import of a module that does not stand above the module that imports it."""
    rank = {file: number for number, file in enumerate(order)}
    return [
        f"{file} imports {other}"
        for file in order
        for other in sorted(imported((package / file).read_text("utf-8"), package))
        if rank[other] >= rank[file]
    ]


def lines(package: Path, files: list[str]) -> int:
    return sum(len((package / file).read_text("utf-8").splitlines()) for file in files)


@pytest.fixture(scope="module")
def package(repository: Path) -> Path:
    return repository / "course_lib"


@pytest.fixture(scope="module")
def order(repository: Path) -> list[str]:
    return tree((repository / "README.md").read_text("utf-8"))


def test_the_tree_lists_every_module_once_and_nothing_else(package: Path, order: list[str]) -> None:
    there = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    assert sorted(order) == sorted(there)


def test_no_module_imports_one_below_it(package: Path, order: list[str]) -> None:
    assert climbs(order, package) == []


def test_the_lesson_is_short(package: Path, order: list[str]) -> None:
    first, last = (order.index(file) for file in CORRIDOR)
    corridor = [file for file in order[first : last + 1] if "/" not in file]
    assert lines(package, corridor) <= LONGEST_CORRIDOR
    assert lines(package, order) < LONGEST


def test_no_module_is_longer_than_one_sitting(package: Path, order: list[str]) -> None:
    assert {file: count for file in order if (count := lines(package, [file])) > 300} == {}


# --- the checks themselves can fail ---------------------------------------------------------------

TREE = """```
course_lib/
    a.py       first
    room/      two modules
        b.py   one
        c.py   another
    d.py       last
```
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A package of four modules and a folder, without imports; tests write the modules."""
    folder = tmp_path / "course_lib"
    (folder / "room").mkdir(parents=True)
    for file in tree(TREE):
        (folder / file).touch()
    return folder


def test_a_folder_stands_for_its_face_below_its_modules() -> None:
    assert tree(TREE) == ["__init__.py", "a.py", "room/b.py", "room/c.py", "room/__init__.py", "d.py"]
    assert tree(TREE.replace("    d.py       last\n", ""))[-1] == "room/__init__.py"


@pytest.mark.parametrize("line", ["    b.py", "  b.py   near", "    a b.py   two", "        b.py   no folder"])
def test_a_line_that_cannot_be_read_is_an_error(line: str) -> None:
    with pytest.raises(AssertionError):
        tree(f"```\ncourse_lib/\n    a.py   first\n{line}\n```\n")


@pytest.mark.parametrize(
    ("file", "source", "told"),
    [
        ("d.py", "from course_lib import a\nfrom course_lib.room import b, anything\nimport course_lib.room.c", None),
        ("room/__init__.py", "from course_lib.room.b import anything", None),
        ("a.py", "from course_lib.room.b import anything", "a.py imports room/b.py"),
        ("a.py", "def f():\n    import course_lib.d as other", "a.py imports d.py"),
        ("a.py", "if TYPE_CHECKING:\n    from course_lib import d", "a.py imports d.py"),
        ("room/b.py", "from course_lib.room import c", "room/b.py imports room/c.py"),
        ("room/c.py", "from course_lib.room import anything", "room/c.py imports room/__init__.py"),
        ("a.py", "import torch\nfrom course_lib_of_others import d", None),
        ("room/b.py", "from course_lib.room.b import itself", "room/b.py imports room/b.py"),
    ],
)
def test_an_import_from_below_is_found_wherever_it_stands(
    small: Path, file: str, source: str, told: str | None
) -> None:
    (small / file).write_text(source)
    assert climbs(tree(TREE), small) == ([told] if told else [])
