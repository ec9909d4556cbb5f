"""pyproject.toml says which packages the course needs, and every other file that names packages agrees with it."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest
import results
import run_notebooks as script
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from course_lib import __version__
from course_lib.checkpoints import load_checkpoint

CONDA_NAMES = {"pytorch": "torch", "pytorch-cpu": "torch"}  # where conda's name is not pip's


def requirements(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by normalised name, without the lines that name an extra of this package."""
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in parsed if canonicalize_name(r.name) != "course-lib"}


def declared(repository: Path, *groups: str) -> dict[str, Requirement]:
    """The requirements of pyproject.toml in these groups: "core", or an extra."""
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    lists = {"core": project["dependencies"], **project["optional-dependencies"]}
    return requirements([line for group in groups for line in lists[group]])


def conda(path: Path) -> tuple[str, dict[str, Requirement], list[str]]:
    """Of an environment.yml: its Python, its other packages under pip's names, and the options for pip."""
    entries = yaml.safe_load(path.read_text("utf-8"))["dependencies"]
    from_pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    python, pip, *packages = [entry for entry in entries if isinstance(entry, str)]
    assert pip == "pip"
    options = [line for line in from_pip if line.startswith("-")]
    found = [re.sub(r"^[\w-]+", lambda m: CONDA_NAMES.get(m[0], m[0]), line) for line in packages]
    return python, requirements(found + [line for line in from_pip if line not in options]), options


def ranges(found: dict[str, Requirement]) -> dict[str, str]:
    return {name: str(requirement.specifier) for name, requirement in sorted(found.items())}


def files(repository: Path) -> list[Path]:
    """All files that git tracks or would add."""
    asked = ["git", "-C", str(repository), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if not (repository / ".git").exists():
        pytest.skip("not a clone, so nothing says which files belong to the repository")
    listed = subprocess.run(asked, capture_output=True, check=True).stdout.decode()
    return [path for name in listed.split("\0") if name and (path := repository / name).is_file()]


def test_conda_users_get_the_same_packages(repository: Path) -> None:
    python, found, options = conda(repository / "environment.yml")
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    assert python == f"python{project['requires-python']}"
    assert ranges(found) == ranges(declared(repository, "core", "lab"))
    assert options == ["--editable ."]


def test_binder_gets_the_same_packages_on_one_python(repository: Path) -> None:
    python, found, options = conda(repository / "binder" / "environment.yml")
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    assert Requirement(f"python{project['requires-python']}").specifier.contains(python.partition("=")[2])
    assert ranges(found) == ranges(declared(repository, "core", "lab"))
    assert options == []
    post_build = repository / "binder" / "postBuild"
    assert os.access(post_build, os.X_OK)
    assert "set -e" in post_build.read_text()
    assert "pip install --no-cache-dir --no-deps --editable ." in post_build.read_text()


def test_constraints_pin_what_is_asked_for_and_each_package_once(repository: Path) -> None:
    text = (repository / "constraints.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pins = requirements(lines)
    assert len(pins) == len(lines)
    asked = declared(repository, "core", "lab", "app", "export", "site", "test", "bench")
    assert asked.keys() <= pins.keys()
    for name, pin in pins.items():
        version = re.fullmatch(r"==(\d[\w.]*)", str(pin.specifier))
        assert version, f"{pin} pins no single version"
        assert name not in asked or asked[name].specifier.contains(version[1]), f"{pin} is not {asked[name]}"


def test_a_host_keeps_the_versions_it_brings(repository: Path) -> None:
    core = declared(repository, "core")
    assert {s.operator for requirement in core.values() for s in requirement.specifier} == {">="}  # no upper bounds
    hosted = {"torch": "2.6.0", "ipython": "7.34.0", "ipywidgets": "7.7.1"}  # Colab's are as old
    assert all(core[name].specifier.contains(version) for name, version in hosted.items())


@pytest.mark.parametrize("folder", [".", "binder"])
def test_conda_understands_every_line(repository: Path, folder: str) -> None:
    rattler = pytest.importorskip("rattler", reason="py-rattler, which reads conda's specifications, is not installed")
    entries = yaml.safe_load((repository / folder / "environment.yml").read_text("utf-8"))["dependencies"]
    specs = [rattler.MatchSpec(entry, strict=True) for entry in entries if isinstance(entry, str)]
    names = [spec.name.normalized for spec in specs]
    assert {"python", "pip", "numpy", "jupyterlab"} <= set(names)
    assert [name for name, spec in zip(names, specs, strict=True) if not spec.version] == ["pip"]


@pytest.mark.slow
def test_binder_takes_its_folder(repository: Path) -> None:
    pytest.importorskip("repo2docker", reason="repo2docker, which builds what Binder runs, is not installed")
    asked = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    done = subprocess.run(asked, cwd=repository, capture_output=True, text=True, check=False)
    dockerfile = done.stdout + done.stderr
    assert done.returncode == 0, dockerfile
    assert "conda environment for python=3.11" in dockerfile
    packages = (repository / "binder" / "apt.txt").read_text().split()
    assert f"apt-get install --yes --no-install-recommends {' '.join(packages)} " in dockerfile
    steps = ['--file "binder/environment.yml"', "COPY --chown=0:0 src/ ${REPO_DIR}/", "RUN ./binder/postBuild"]
    places = [dockerfile.index(step) for step in steps]
    assert places == sorted(places)


def imports(source: str) -> set[str]:
    """The top-level names of the packages that some Python source imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize(
    ("folder", "groups"),
    [
        ("course_lib", ["core", "export"]),
        ("notebooks", ["core"]),
        ("scripts", ["core", "lab"]),
        ("app", ["core", "app"]),
        ("site/book", ["core", "site"]),
        (".jupyterlab", ["core", "lab"]),
        ("tests", ["core", "lab", "test"]),
        ("tests/browser", ["core", "lab", "app", "test"]),
    ],
)
def test_what_is_imported_is_declared(repository: Path, folder: str, groups: list[str]) -> None:
    known = packages_distributions()
    asked = declared(repository, *groups).keys()
    places = (folder, "scripts", "benchmarks")
    own = {"course_lib", *(path.stem for place in places for path in (repository / place).glob("*.py"))}
    pattern = "**/*.py" if folder == "course_lib" else "*.py"
    for path in [*(repository / folder).glob(pattern), *(repository / folder).glob("*.ipynb")]:
        source = path.read_text("utf-8")
        if path.suffix == ".ipynb":
            cells = json.loads(source)["cells"]
            source = "\n".join("".join(c["source"]) + "\n" for c in cells if c["cell_type"] == "code")
            source = re.sub(r"^( *)[%!].*", r"\1pass", source, flags=re.MULTILINE)  # magics are not Python
        for name in imports(source) - own - sys.stdlib_module_names:
            owners = {canonicalize_name(owner) for owner in known.get(name, [])}
            assert owners & asked, f"{path.name} imports {name}, which is not in pyproject.toml's {groups}"


# The hosts of package registries, and paths of one person's machine. Pages for readers may name PyTorch's small build.
SMALL_BUILD = "https://" + "download." + "pytorch.org/whl/cpu"
FORBIDDEN = re.compile(
    r"\b(?:files\.)?(?:pypi|pythonhosted|npmjs|anaconda)\.(?:org|com)\b"
    r"|\bdownload\.pytorch\b"
    r"|(?<![\w.~})-])/(?:home|opt|root|tmp|Users|work)/[\w.]"
)


@pytest.mark.parametrize(
    "text",
    [
        "see https://" + "pypi." + "org/simple",
        "https://registry." + "npmjs." + "org",
        SMALL_BUILD,
        'File "/' + 'home/li/course/a.py"',
        "cd /" + "work/main",
    ],
)
def test_forbidden_names_are_recognised(text: str) -> None:
    assert FORBIDDEN.search(text)


def test_no_registry_and_no_machine_is_named(repository: Path) -> None:
    found = []
    for path in files(repository):
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue  # poems and weights are not text
        if path.suffix == ".md":
            text = text.replace(SMALL_BUILD, "")
        if hit := FORBIDDEN.search(text):
            line = text.count("\n", 0, hit.start()) + 1
            found.append(f"{path.relative_to(repository)}:{line}: {hit[0]}")
    assert not found


def test_the_shipped_checkpoints_are_not_ignored(repository: Path) -> None:
    files(repository)
    weights = ["assets/checkpoints/base/model.safetensors", "checkpoints/finetuned/model.safetensors"]
    asked = ["git", "-C", str(repository), "check-ignore", "--no-index", "--verbose", *weights]
    matches = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    # A line is `file:line:pattern<tab>path`. A clone may exclude more in a file of its own.
    assert [line.split("\t")[1] for line in matches if line.startswith(".gitignore:")] == weights[1:]


def test_ci_types_what_the_readme_says(repository: Path) -> None:
    lines = (repository / ".ci" / "run").read_text().splitlines()
    readme = (repository / "README.md").read_text("utf-8")
    assert lines[-2:] == ["export COURSE_BROWSER=required", "make test"]  # no browser is a failure here
    assert {line for line in lines if line.startswith("make ")} <= set(re.findall(r"make \w+", readme))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/set_up.md"])
def test_a_page_names_only_targets_that_exist(repository: Path, page: str) -> None:
    makefile = (repository / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())
    blocks = re.findall(r"```.*?```|`[^`\n]+`", (repository / page).read_text("utf-8"), re.DOTALL)
    named = {name for block in blocks for name in re.findall(r"(?:^|`|\n|&& )make ([\w-]+)", block)}
    assert {"quick", "test"} <= named <= targets


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("lab", "lab"),
        ("app", "app"),
        ("course", "course"),
        ("test", "test"),
        ("quick", "test quick"),
        ("lint", "test lint"),
    ],
)
def test_make_calls_the_command_that_works_without_it(clone: Path, target: str, command: str) -> None:
    planned = make(clone, "-n", target).stdout
    assert re.fullmatch(rf"\.venv\S+python -m course_lib {command}\n", planned)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in `folder` as a reader would, even if make started this test."""
    inherited = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTHON", "TORCH_INDEX"}
    clean = {key: value for key, value in os.environ.items() if key not in inherited}
    return subprocess.run(["make", *arguments], cwd=folder, env=clean, capture_output=True, text=True, check=False)


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Path:
    """A folder with the files that set-up reads, and with a .venv that is newer than they are."""
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    (tmp_path / ".venv").mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(repository / name, tmp_path)
        os.utime(tmp_path / name, (1000, 1000))
    for age, name in enumerate(("made", "ready-lab", "ready-app", "ready-test")):
        (tmp_path / ".venv" / name).touch()
        os.utime(tmp_path / ".venv" / name, (2000 + age, 2000 + age))
    return tmp_path


def test_help_lists_every_target(clone: Path, repository: Path) -> None:
    targets = re.findall(r"^\.PHONY: (.*)$", (repository / "Makefile").read_text(), re.MULTILINE)[0].split()
    assert {"lab", "quick", "test", "course"} <= set(targets)
    assert re.findall(r"^  make ([\w-]+) +[a-z]", make(clone).stdout, re.MULTILINE) == targets
    (clone / "assets").mkdir()
    shutil.copy(repository / "assets" / "chinese.json", clone / "assets")
    chinese = make(clone, "COURSE_LANG=zh").stdout
    assert re.findall(r"^  make ([\w-]+) +[^\na-z]*[一-龥]", chinese, re.MULTILINE) == targets


@pytest.mark.parametrize("target", ["lab", "app", "quick", "test", "course"])
def test_set_up_runs_once_and_again_when_its_files_change(clone: Path, target: str) -> None:
    assert "pip install" not in make(clone, "-n", target).stdout
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(clone / name, (3000, 3000))
        assert "pip install --constraint constraints.txt" in make(clone, "-n", target).stdout
        os.utime(clone / name, (1000, 1000))
    shutil.rmtree(clone / ".venv")
    planned = make(clone, "-n", target).stdout
    assert planned.index("正在准备") < planned.index("-m venv .venv") < planned.index("pip install")
    assert "--quiet" not in planned  # pip takes minutes, and says meanwhile what it does


def test_an_index_for_pytorch_is_used_when_given_and_only_then(clone: Path) -> None:
    shutil.rmtree(clone / ".venv")
    assert "index" not in make(clone, "-n", "lab").stdout
    planned = make(clone, "-n", "lab", "TORCH_INDEX=some-index").stdout
    (alone,) = [line for line in planned.splitlines() if "index" in line]
    assert alone.endswith(" --constraint constraints.txt --no-deps --index-url some-index torch")
    assert planned.index(alone) < planned.index(
        "--editable"
    )  # then pip finds it there, and asks its own index for the rest


def fake_python(folder: Path, version: tuple[int, int, int]) -> str:
    """A command that claims to be this version of Python. It only prints its version and runs a `-c` program."""
    program = f"import sys; sys.version_info = {version}; exec(sys.argv[1])"
    name = ".".join(map(str, version))
    path = folder / f"python{name}"
    path.write_text(
        f'#!/bin/sh\n[ "$1" != --version ] || {{ echo "Python {name}"; exit 0; }}\n'
        f'[ "$1" = -c ] && exec "{sys.executable}" -c "{program}" "$2"\nexit 7\n'
    )
    path.chmod(0o755)
    return f"./{path.name}"


def test_another_pytorch_takes_the_place_of_the_pinned_one(clone: Path, repository: Path) -> None:
    assert "--constraint constraints.txt" in make(clone, "-n", "test", "-B").stdout
    assert "--constraint .venv/constraints.txt" in make(clone, "-n", "test", "TORCH===2.6.0").stdout
    made = make(clone, ".venv/constraints.txt", "TORCH=>=2.6")
    assert made.returncode == 0, made.stderr
    pinned = (repository / "constraints.txt").read_text("utf-8")
    assert (clone / ".venv" / "constraints.txt").read_text("utf-8") == re.sub("(?m)^torch==.*", "torch>=2.6", pinned)


def test_an_old_python_is_refused_in_one_clear_sentence(clone: Path) -> None:
    shutil.rmtree(clone / ".venv")
    old = fake_python(clone, (3, 10, 13))
    for name, what in ((old, "Python 3.10.13"), ("./no-python", "not found")):
        done = make(clone, "lab", f"PYTHON={name}")
        assert done.returncode != 0
        assert f"The course needs Python 3.11 or newer; {name} is {what}." in done.stderr
        assert "venv" not in done.stdout
    new = make(clone, "lab", f"PYTHON={fake_python(clone, (3, 11, 0))}")
    assert "The course needs" not in new.stderr
    assert "./python3.11.0 -m venv .venv" in new.stdout


def run_notebooks(repository: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    asked = [sys.executable, str(repository / "scripts" / "run_notebooks.py"), *map(str, paths)]
    return subprocess.run(asked, capture_output=True, text=True, check=False)


def write_notebook(path: Path, *sources: str) -> Path:
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    notebook.metadata["language_info"] = {"name": "python", "version": "2.7"}
    notebook.cells = [nbformat.v4.new_markdown_cell("# Begin"), *map(nbformat.v4.new_code_cell, sources)]
    for cell in notebook.cells[1:]:
        cell.execution_count = 17
    nbformat.write(notebook, path)
    return path


@pytest.mark.slow
def test_notebooks_are_run_in_order_and_saved_clean(repository: Path, tmp_path: Path) -> None:
    sources = [
        "import sys, time, ipywidgets\nfor i in range(3): print(i, flush=True); time.sleep(0.3)",
        "ipywidgets.IntSlider(7)",
        "sys.executable",
        "import course_lib; course_lib.__version__",
    ]
    path = write_notebook(tmp_path / "one.ipynb", *sources)
    done = run_notebooks(repository, path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^one\.ipynb +\d+\.\d min", done.stdout.replace("\r", "\n"), re.MULTILINE)
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = notebook.cells[1:]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4]
    assert code[0].outputs == [{"name": "stdout", "output_type": "stream", "text": "0\n1\n2\n"}]
    assert list(code[1].outputs[0].data) == ["text/plain"]
    assert ast.literal_eval(code[2].outputs[0].data["text/plain"]) == sys.executable
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info


@pytest.mark.slow
def test_a_failing_notebook_is_named_and_left_alone(repository: Path, tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "two.ipynb", "x = 1", "x.upper()\nx", "print('never')")
    before = path.read_bytes()
    later = write_notebook(tmp_path / "three.ipynb", "2")
    done = run_notebooks(repository, path, later)
    assert done.returncode == 1
    assert "two.ipynb stopped in code cell 2, which begins `x.upper()`" in done.stderr
    assert "AttributeError: 'int' object has no attribute 'upper'" in done.stderr
    assert path.read_bytes() == before
    assert "three" not in done.stdout


@pytest.mark.slow
def test_a_kernel_that_dies_is_told_from_a_cell_that_fails(repository: Path, tmp_path: Path) -> None:
    done = run_notebooks(repository, write_notebook(tmp_path / "five.ipynb", "import os", "os._exit(9)"))
    assert done.returncode == 1
    assert "five.ipynb stopped in code cell 2" in done.stderr
    assert "the kernel died" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal to a group of processes")
def test_ctrl_c_ends_a_run_in_one_line_and_leaves_the_notebook_alone(repository: Path, tmp_path: Path) -> None:
    waits = "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(60)"
    path = write_notebook(tmp_path / "six.ipynb", waits)
    before = path.read_bytes()
    asked = [sys.executable, str(repository / "scripts" / "run_notebooks.py"), str(path)]
    with subprocess.Popen(asked, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        while not (tmp_path / "begun").exists():
            assert running.poll() is None
            time.sleep(0.1)
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted; this notebook was not changed" in said
    assert "nbclient" not in said  # no traceback of the program that runs the cells
    assert path.read_bytes() == before


@pytest.mark.slow
def test_the_minutes_of_a_run_are_saved_for_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: dict[str, dict[str, dict[str, float]]] = {}
    monkeypatch.setattr(results, "save", lambda name, figures, _: saved.update({name: figures}))
    path = write_notebook(tmp_path / "04_four.ipynb", "import time; time.sleep(1.2)")
    assert script.main([str(path), "--save", "notebooks-x"]) == 0
    assert saved["notebooks-x"]["minutes"].keys() == {"4"}
    assert 0.02 <= saved["notebooks-x"]["minutes"]["4"] < 5


@pytest.mark.slow
def test_a_notebook_that_is_not_there_is_named(repository: Path, tmp_path: Path) -> None:
    done = run_notebooks(repository, tmp_path / "four.ipynb")
    assert done.returncode == 2
    assert "four.ipynb" in done.stderr


# --- what a clone, a host or a reader finds -------------------------------------------------------


@pytest.mark.slow
def test_a_clone_with_the_line_ends_of_windows_works(repository: Path, tmp_path: Path) -> None:
    """Git for Windows sets core.autocrlf=true; checksums are taken over bytes, and bash reads no CR."""
    source, other = tmp_path / "source", tmp_path / "clone"
    for path in files(repository):
        copy = source / path.relative_to(repository)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "core.autocrlf=false"]
    for command in (["init", "-q"], ["add", "--force", "."], ["commit", "-q", "-m", "All"]):
        subprocess.run([*git, "-C", str(source), *command], check=True)
    subprocess.run(["git", "clone", "-q", "-c", "core.autocrlf=true", str(source), str(other)], check=True)
    cloned = [path for path in source.rglob("*") if path.is_file() and ".git" not in path.relative_to(source).parts]
    assert [path for path in cloned if path.read_bytes() != (other / path.relative_to(source)).read_bytes()] == []
    for name in ("base", "finetuned"):  # loading compares the checksums
        assert load_checkpoint(other / "assets" / "checkpoints" / name)
    subprocess.run([sys.executable, "scripts/check_notebooks.py"], cwd=other, check=True)
    subprocess.run(["bash", "-n", ".ci/run"], cwd=other, check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ("vendor.citation-file-format", ["CITATION.cff"]),
        ("vendor.github-issue-forms", [".github/ISSUE_TEMPLATE/cell.yml", ".github/ISSUE_TEMPLATE/sentence.yml"]),
    ],
)
def test_files_that_a_host_reads_follow_their_schema(repository: Path, schema: str, names: list[str]) -> None:
    asked = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    done = subprocess.run([*asked, *names], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_citation_has_the_version_and_the_licence_of_the_package(repository: Path) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (__version__, project["license"])


def test_codespaces_installs_as_make_does_and_starts_nothing(repository: Path) -> None:
    container = json.loads((repository / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
    command = container["postCreateCommand"].removeprefix("make ")
    assert re.search(rf"^{re.escape(command)}:", (repository / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert not {"postStartCommand", "postAttachCommand", "forwardPorts"} & container.keys()
    version = container["image"].rpartition(":")[2]
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
