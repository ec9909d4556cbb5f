"""Build the page that writes poems without a server: `site/poem`, onnxruntime-web and a model, in one folder.

    python scripts/build_poem_page.py [CHECKPOINT] [--out build/poem]

Any web server can serve the folder: `python -m http.server --directory build/poem`. It needs npm once, for
onnxruntime-web. A visitor's browser fetches nothing from elsewhere.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from course_lib import paths, titles
from course_lib.checkpoints import load_checkpoint
from course_lib.export import export
from course_lib.prosody import readings, rhyme_rows
from course_lib.tokenizer import CharacterTokenizer

SOURCE = paths.HOME / "site" / "poem"
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
LICENCES = ("LICENSE", "ThirdPartyNotices.txt")  # the npm package lacks them; the Python package onnxruntime has them

OFTEN = 4  # rarer pairs of neighbours are left out; 2 of 1,839 Simplified titles are then read otherwise
LIMITS = ("MAX_TITLE", "SMOOTHING", "PENALTY", "PENALTY_EITHER", "OFFERED", "RARE")


def rhyme_groups(tokenizer: CharacterTokenizer) -> dict[str, str]:
    """Each rhyme group, in the order of the rhyme book -> those of its characters that the model knows."""
    known = set(titles.vocabulary(tokenizer))
    groups = {name: "" for name, _ in rhyme_rows("pingshui.txt")}
    for character, names in readings().items():
        groups |= {name: groups[name] + character for name in names if character in known}
    return groups


def title_tables(tokenizer: CharacterTokenizer) -> dict[str, Any]:
    """What `course_lib.titles` knows about Simplified characters."""
    simplified, printed = titles.counterparts(titles.vocabulary(tokenizer))
    usage = titles.usage(paths.ASSETS)
    followers: dict[str, dict[str, int]] = {}  # a character -> how often each character is after it
    for pair, count in zip(usage.pairs.tolist(), usage.counts.tolist(), strict=True):
        if count >= OFTEN:
            followers.setdefault(chr(pair >> 32), {})[chr(pair & 0xFFFFFFFF)] = count
    return {
        "limits": {name: getattr(titles, name) for name in LIMITS},
        "same": titles.SAME,
        "simplified": simplified,
        "printed": printed,
        "frequency": {chr(code): int(usage.characters[code]) for code in usage.characters.nonzero()[0].tolist()},
        "followers": followers,
        "total": int(usage.total),
    }


def simplified_forms(tokenizer: CharacterTokenizer) -> dict[str, str]:
    """What Simplified Chinese writes otherwise -> how: pairs of characters, then single ones.

    A pair is there if its characters alone would be written in another way: 乾 is 干, but 乾坤 remains 乾坤.
    """
    simplify = titles.converter("t2s").convert
    neighbours = (chr(pair >> 32) + chr(pair & 0xFFFFFFFF) for pair in titles.usage(paths.ASSETS).pairs.tolist())
    pairs = {pair: form for pair in neighbours if (form := simplify(pair)) != "".join(map(simplify, pair))}
    return pairs | {c: form for c in titles.vocabulary(tokenizer) if (form := simplify(c)) != c}


def vendor(folder: Path) -> None:
    """Put the files of onnxruntime-web that the page needs, and its licences, into `folder`.

    The version is that of package.json.
    """
    ((name, version),) = json.loads((SOURCE / "package.json").read_text("utf-8"))["dependencies"].items()
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.which("npm") is None:
        sys.exit(f"npm is not installed: {name} comes as an npm package")
    subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=folder, stdout=subprocess.DEVNULL, check=True)
    archive = folder / f"{name}-{version}.tgz"
    with tarfile.open(archive) as packed:
        for file in RUNTIME:
            content = packed.extractfile(f"package/dist/{file}")
            assert content is not None
            (folder / file).write_bytes(content.read())
    archive.unlink()
    for file in LICENCES:
        (folder / file).write_bytes((files("onnxruntime") / file).read_bytes())


def stamp(folder: Path) -> None:
    """Write a sum of all files into the service worker, so that each version of the page has a store of its own."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(file.read_bytes())
    worker = folder / "service-worker.js"
    worker.write_text(worker.read_text("utf-8").replace('"development"', f'"{total.hexdigest()[:12]}"'), "utf-8")


def build(checkpoint: Path, out: Path) -> None:
    """Build the page in `out`. The files of an older page there are replaced."""
    shutil.copytree(SOURCE, out, ignore=shutil.ignore_patterns("package.json"), dirs_exist_ok=True)
    vendor(out / "ort")
    opened = load_checkpoint(checkpoint)
    export(opened, out / "model")
    for name, table in (("prosody", rhyme_groups), ("titles", title_tables), ("simplified", simplified_forms)):
        text = json.dumps(table(opened.tokenizer), ensure_ascii=False, separators=(",", ":"))
        (out / "model" / f"{name}.json").write_text(text, encoding="utf-8")
    (out / "model" / "model-int8.onnx").unlink()  # the page writes what Python writes, so it needs the exact model
    stamp(out)


def main() -> None:
    """Build the page, and print where it is."""
    parser = argparse.ArgumentParser(description="Build the page that writes poems without a server.")
    parser.add_argument("checkpoint", type=Path, nargs="?", help="the checkpoint; else the course's aligned model")
    parser.add_argument("--out", type=Path, default=Path("build/poem"), help="the folder of the page")
    asked = parser.parse_args()
    build(asked.checkpoint or paths.ALIGNED, asked.out)
    size = sum(path.stat().st_size for path in asked.out.rglob("*") if path.is_file())
    print(f"{asked.out}: {size / 1e6:.1f} MB. To see it: python -m http.server --directory {asked.out}")


if __name__ == "__main__":
    main()
