"""`make badges` writes the public address of the repository into README and notebooks, or removes it."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import write_badges
from write_badges import Address, badges, parse, setup_source, with_badges

GITHUB = Address("github.com", "poet/course", "main")
TITLE = "# A course\n\nText.\n"


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/poet/course",
        "https://github.com/poet/course.git",
        "https://GitHub.com/poet/course/",
        "https://poet:secret" + "@github.com/poet/course.git",
        "git@github.com:poet/course.git",
        "ssh://git@github.com/poet/course.git",
        "ssh://git@github.com:22/poet/course",
    ],
)
def test_every_form_of_a_public_address_is_understood(remote: str) -> None:
    address = parse(remote, "main")
    assert address == GITHUB
    assert address.url == "https://github.com/poet/course"


@pytest.mark.parametrize(
    "remote",
    [
        "",
        "../course.git",
        "/srv/git/course.git",
        "C:\\git\\course",
        "file:///srv/course.git",
        "http://localhost:3000/poet/course",
        "http://192.0.2.7/poet/course",
        "git@nas:poet/course.git",
        'https://github.com/poet/"quoted".git',
    ],
)
def test_a_remote_that_not_everybody_can_reach_is_no_address(remote: str) -> None:
    assert parse(remote, "main") is None


def test_badges_open_the_notebook() -> None:
    line = badges(GITHUB, "05_generate.ipynb")
    assert re.findall(r"\]\(([^)\s]+)\)(?= |$)", line) == [
        "https://mybinder.org/v2/gh/poet/course/main?urlpath=lab/tree/notebooks/05_generate.ipynb",
        "https://colab.research.google.com/github/poet/course/blob/main/notebooks/05_generate.ipynb",
    ]


def test_other_hosts_have_only_binder() -> None:
    line = badges(Address("git.example.org", "poet/course", "try/this"), "05_generate.ipynb")
    assert "colab" not in line
    assert "/v2/git/https%3A%2F%2Fgit.example.org%2Fpoet%2Fcourse/try%2Fthis?urlpath=" in line


def test_no_address_no_badge() -> None:
    assert badges(None, "05_generate.ipynb") == ""


def test_badges_are_put_in_replaced_and_taken_out() -> None:
    first = with_badges(TITLE, "[![a](b)](c)")
    assert first == "# A course\n\n[![a](b)](c)\n\nText.\n"
    assert with_badges(first, "[![x](y)](z)") == "# A course\n\n[![x](y)](z)\n\nText.\n"
    assert with_badges(first, "") == TITLE
    with pytest.raises(ValueError, match="not with a heading"):
        with_badges("Text.\n", "")


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    """A clone with a README and one notebook, on the branch `spring`; it has no remote yet."""
    subprocess.run(["git", "init", "-q", "-b", "spring", str(tmp_path)], check=True)
    for readme in write_badges.OPENED:
        (tmp_path / readme).write_text(TITLE, "utf-8")
    (tmp_path / "notebooks").mkdir()
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# One\n\nText."),
        nbformat.v4.new_code_cell("1 + 1", execution_count=2),
    ]
    nbformat.write(notebook, tmp_path / "notebooks" / "one.ipynb")
    return tmp_path


def test_a_clone_is_written_and_written_back(fork: Path) -> None:
    def files() -> list[bytes]:
        return [(fork / name).read_bytes() for name in ("README.md", "notebooks/one.ipynb", "README.zh-CN.md")]

    assert write_badges.write(fork) is None
    without = files()
    subprocess.run(["git", "-C", str(fork), "remote", "add", "origin", "git@github.com:poet/course.git"], check=True)
    assert write_badges.write(fork) == Address("github.com", "poet/course", "spring")
    published = files()
    assert b"blob/spring/notebooks/01_data_formatting.ipynb" in published[0]
    assert b"blob/spring/notebooks/zh/01_data_formatting.ipynb" in published[2]
    title, setup, other = nbformat.read(fork / "notebooks" / "one.ipynb", as_version=4).cells
    assert "blob/spring/notebooks/one.ipynb" in title.source
    assert "git+https://github.com/poet/course" in setup.source
    assert (other.source, other.execution_count) == ("1 + 1", 2)
    write_badges.write(fork)
    assert files() == published
    subprocess.run(["git", "-C", str(fork), "remote", "set-url", "origin", "/srv/course.git"], check=True)
    assert write_badges.write(fork) is None
    assert files() == without
    assert files()[0] == TITLE.encode()


def test_the_main_branch_of_origin_wins_over_the_one_that_is_worked_on(fork: Path) -> None:
    subprocess.run(["git", "-C", str(fork), "remote", "add", "origin", "https://github.com/poet/course"], check=True)
    head = ["refs/remotes/origin/HEAD", "refs/remotes/origin/main"]
    subprocess.run(["git", "-C", str(fork), "symbolic-ref", *head], check=True)
    assert write_badges.address_of(fork) == GITHUB


def run_cell(source: str, folder: Path, *, standing_alone: bool) -> subprocess.CompletedProcess[str]:
    """Run a cell in IPython, where %pip only prints its arguments. `standing_alone`: there is no course_lib."""
    program = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell\n"
        "import importlib.util as u; real = u.find_spec\n"
        f"u.find_spec = lambda name: None if {standing_alone} and name == 'course_lib' else real(name)\n"
        "shell = InteractiveShell.instance()\n"
        "shell.register_magic_function(lambda line: print('pip', line), magic_name='pip')\n"
        f"sys.exit(not shell.run_cell({source!r}).success)"
    )
    asked = [sys.executable, "-c", program]
    return subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_first_cell_installs_the_course_only_where_it_is_missing(tmp_path: Path) -> None:
    source = setup_source(GITHUB)
    alone = run_cell(source, tmp_path, standing_alone=True)
    assert (alone.returncode, alone.stdout) == (0, "pip install --quiet git+https://github.com/poet/course\n")
    there = run_cell(source, tmp_path, standing_alone=False)
    assert (there.returncode, there.stdout) == (0, "")


@pytest.mark.slow
def test_a_chinese_notebook_is_chinese_wherever_it_is_opened(tmp_path: Path) -> None:
    """On Colab and on Kaggle, the folder is another one."""
    source = setup_source(GITHUB, "zh/05_generate.ipynb")
    assert "COURSE_LANG" not in setup_source(GITHUB, "05_generate.ipynb") + setup_source(None, "zh/05_generate.ipynb")
    asks = "\nfrom course_lib.language import say\nprint(say('Stop'))"
    told = run_cell(source + asks, tmp_path, standing_alone=False)
    assert (told.returncode, told.stdout) == (0, "停\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "in_the_course", "says"),
    [
        ("notebooks", True, "%pip install --editable .. in"),
        ("notebooks/zh", True, "%pip install --editable ../.. in"),
        ("notebooks", False, "%pip install git+ADDRESS"),
    ],
)
def test_without_an_address_the_first_cell_says_what_to_do_where_it_is(
    tmp_path: Path, folder: str, in_the_course: bool, says: str
) -> None:
    notebooks = tmp_path / folder
    notebooks.mkdir(parents=True)
    if in_the_course:
        (tmp_path / "pyproject.toml").touch()
    source = setup_source(None)
    alone = run_cell(source, notebooks, standing_alone=True)
    assert alone.returncode == 1
    assert says in alone.stdout + alone.stderr
    assert "make" not in alone.stdout + alone.stderr
    there = run_cell(source, notebooks, standing_alone=False)
    assert (there.returncode, there.stdout) == (0, "")


@pytest.mark.parametrize("drive", [True, False])
def test_a_model_goes_from_notebook_4_to_another_machine(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drive: bool
) -> None:
    """The lines that notebooks 4, 5 and 6 show for Colab, with a folder in place of Google Drive."""
    (tmp_path / "drive").mkdir()
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(drive=SimpleNamespace(mount=lambda _: None)))

    def lines(number: int) -> str:
        (path,) = (repository / "notebooks").glob(f"0{number}_*.ipynb")
        (note,) = (cell.source for cell in nbformat.read(path, as_version=4).cells if cell.id == "elsewhere")
        code = re.search(r"```python\n(.*?)```", note, re.DOTALL) if drive else re.search(r"`(shutil.*?)`", note)
        assert code
        return f"import shutil\n{code[1]}".replace("/content/drive/MyDrive", str(tmp_path / "drive"))

    model = tmp_path / "4" / "checkpoints" / "finetuned"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path / "4")
    exec(lines(4))
    for number in (5, 6):
        folder = tmp_path / str(number)
        folder.mkdir()
        if not drive:
            (folder / "finetuned.zip").write_bytes((tmp_path / "4" / "finetuned.zip").read_bytes())
        monkeypatch.chdir(folder)
        exec(lines(number))
        assert (folder / "checkpoints/finetuned/model.safetensors").read_bytes() == b"weights"


def test_readme_and_notebooks_name_one_address_or_none(repository: Path) -> None:
    paths = sorted((repository / "notebooks").glob("*.ipynb"))
    readme = (repository / "README.md").read_text("utf-8")
    notebooks = [nbformat.read(path, as_version=4) for path in paths]
    named = {fetched for book in notebooks for cell in book.cells for fetched in re.findall(r"git\+(\S+)", cell.source)}
    assert len(named) <= 1
    branch = re.search(r"mybinder\.org/v2/\S+/([^/?]+)\?", readme)
    address = parse(named.pop(), branch[1] if branch else "main") if named else None
    assert with_badges(readme, badges(address, write_badges.FIRST)) == readme, "run `make badges`"
    for path, notebook in zip(paths, notebooks, strict=True):
        as_found = nbformat.writes(notebook)
        write_badges.write_notebook(notebook, path.name, address)
        assert nbformat.writes(notebook) == as_found, f"{path.name}: run `make badges`"
