"""What holds for every test: nothing is fetched, and a slow machine is no failure."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Read when transformers is imported, so before any test is.
os.environ["HF_HUB_OFFLINE"] = "1"

settings.register_profile("course", deadline=None)
settings.load_profile("course")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent
