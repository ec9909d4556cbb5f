"""What holds for every test: nothing is fetched, and a slow machine is no failure."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tiny import TINY, synthetic

from course_lib import poems as poem_files
from course_lib.__main__ import main
from course_lib.batches import plain_text
from course_lib.checkpoints import Checkpoint
from course_lib.model import ModelConfig, PoetryModel
from course_lib.poems import Poem
from course_lib.recipes import recipe as recipes
from course_lib.roles import WRITE_A_POEM
from course_lib.tokenizer import CharacterTokenizer

# Read when transformers is imported, so before any test is.
os.environ["HF_HUB_OFFLINE"] = "1"

# A shell that runs the tests in the background has them ignore Ctrl-C; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("course", deadline=None)
settings.load_profile("course")


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
    """A tokenizer that knows those poems, the instruction, and the roles."""
    made = CharacterTokenizer.train([*(plain_text(p) for p in poems), WRITE_A_POEM], min_count=1)
    made.add_role_tokens()
    return made


@pytest.fixture
def checkpoint(tokenizer: CharacterTokenizer) -> Checkpoint:
    """An untrained model of two layers and 64 tokens of context, with that tokenizer."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    return Checkpoint(PoetryModel(config).eval(), tokenizer)


@pytest.fixture(scope="session")
def shipped_tokenizer(repository: Path) -> CharacterTokenizer:
    """The tokenizer of the base checkpoint, with the roles added."""
    loaded = CharacterTokenizer.load(repository / "assets/checkpoints/base/tokenizer.json")
    loaded.add_role_tokens()
    return loaded


# --- runs small enough for a test ----------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder to work in, with small poem files of its own, and one thread for the same sums anywhere."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(poem_files.ASSETS / "rhymes", home / "assets/rhymes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(poem_files, "ASSETS", home / "assets")
        patch.setenv("COURSE_LIB_ASSETS", str(home / "assets"))
        patch.setenv("COURSE_LIB_CACHE", str(home / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(recipes, "BASE", home / "assets/checkpoints/base")
        patch.setattr(recipes, "FINETUNED", home / "assets/checkpoints/finetuned")
        for first, (split, count) in enumerate({"train": 60, "validation": 12, "test": 205}.items()):
            poem_files.save_poems(synthetic(count, first), poem_files.poem_file(split))  # type: ignore[arg-type]
        patch.chdir(home)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield home
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base(home: Path) -> Path:
    """A base checkpoint, pretrained without interruption; its run is in runs/whole."""
    assert main(["pretrain", *TINY, "--run-folder", "runs/whole", "--out", str(recipes.BASE)]) == 0
    return recipes.BASE
