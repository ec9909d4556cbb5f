"""What all tests share: nothing is fetched, and a slow machine does not fail a test."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tiny import TINY, synthetic

from course_lib import paths
from course_lib.__main__ import main
from course_lib.checkpoints import Checkpoint
from course_lib.instructions import POEM
from course_lib.model import ModelConfig, PoetryModel
from course_lib.poems import Poem, poem_file, save_poems
from course_lib.roles import pretraining_text
from course_lib.tokenizer import CharacterTokenizer

# Read when transformers is imported, so it is set before any test is.
os.environ["HF_HUB_OFFLINE"] = "1"

os.environ.pop("COURSE_LANG", None)  # the tests read English, except where they choose

# A shell that runs the tests in the background makes them ignore Ctrl-C; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("course", deadline=None)
settings.load_profile("course")


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """Training collects garbage first, which takes half a second unless what is imported by now is left out."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent


# --- a model small enough for any test, and poems for it ------------------------------------------


@pytest.fixture(scope="session")
def poems() -> list[Poem]:
    """Three poems written for the tests; no corpus has them."""
    return [
        Poem("山雨", "試筆", ("山中一夜雨，樹上幾聲鶯。", "水向門前去，雲從石上生。")),
        Poem("江月", "試筆", ("江月何人見，江花幾度開。",)),
        Poem("夜雨江月", "試筆", ("夜雨聲聲去，江雲樹樹開。", "人從山上見，月向水中來。")),
    ]


@pytest.fixture
def tokenizer(poems: list[Poem]) -> CharacterTokenizer:
    """A tokenizer that knows those poems, the instruction `POEM`, and the roles."""
    made = CharacterTokenizer.train([*(pretraining_text(p) for p in poems), POEM.wording], min_count=1)
    made.add_role_tokens()
    return made


@pytest.fixture
def checkpoint(tokenizer: CharacterTokenizer) -> Checkpoint:
    """An untrained model of two layers and 64 tokens of context, with that tokenizer and `POEM`."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    return Checkpoint(PoetryModel(config).eval(), tokenizer, (POEM,))


@pytest.fixture(scope="session")
def shipped_tokenizer(repository: Path) -> CharacterTokenizer:
    """The tokenizer of the base checkpoint, with the roles added."""
    loaded = CharacterTokenizer.load(repository / "assets/checkpoints/base/tokenizer.json")
    loaded.add_role_tokens()
    return loaded


# --- runs small enough for a test ----------------------------------------------------------------


@pytest.fixture(scope="module")
def home(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder to work in, with small poem files of its own. One thread gives the same sums on any machine."""
    home = tmp_path_factory.mktemp("home")
    for name in ("rhymes", "cards"):
        shutil.copytree(repository / "assets" / name, home / "assets" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_LIB_ASSETS", str(home / "assets"))  # for processes that a test starts
        patch.setenv("COURSE_LIB_CACHE", str(home / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(paths, "ASSETS", home / "assets")
        patch.setattr(paths, "BASE", home / "assets/checkpoints/base")
        patch.setattr(paths, "FINETUNED", home / "assets/checkpoints/finetuned")
        save_poems(synthetic(60, 0), poem_file("train"))
        save_poems(synthetic(12, 1), poem_file("validation"))
        save_poems(synthetic(205, 2), poem_file("test"))
        patch.chdir(home)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield home
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base(home: Path) -> Path:
    """A base checkpoint, pretrained without interruption; its run is in runs/whole."""
    assert main(["pretrain", *TINY, "--run-folder", "runs/whole", "--out", str(paths.BASE)]) == 0
    return paths.BASE
