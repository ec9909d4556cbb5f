"""Where poems, checkpoints and caches are on disk.

Other modules read these names at each call, as `paths.ASSETS`, so that one change moves everything.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
HOME = PACKAGE if (PACKAGE / "assets").is_dir() else PACKAGE.parent  # an installed package holds its own assets
ASSETS = Path(os.environ.get("COURSE_LIB_ASSETS") or HOME / "assets")

BASE = ASSETS / "checkpoints" / "base"
FINETUNED = ASSETS / "checkpoints" / "finetuned"
INSTRUCTED = ASSETS / "checkpoints" / "instructed"  # follows many instructions
ALIGNED = ASSETS / "checkpoints" / "aligned"  # learned from pairs of its own answers
OWN = Path("checkpoints") / "finetuned"  # the learner's model, in the folder they work in


def cache_folder() -> Path:
    """The folder for files too big for the repository. The variable COURSE_LIB_CACHE moves it."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("COURSE_LIB_CACHE") or user_cache_path("course_lib"))


def own_or_shipped(folder: Path | None = None) -> Path:
    """The checkpoint folder to use: `folder` if given, else the learner's own model, else the shipped one.

    Their own is looked for here, then where the notebooks save it, then where a command saves it, seen from a notebook.
    """
    places = (Path(place, OWN) for place in ("", "notebooks", "notebooks/zh", "..", "../.."))
    return folder or next((own for own in places if (own / "model.safetensors").is_file()), FINETUNED)
