"""The command `export`: a checkpoint for programs without PyTorch."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from course_lib import paths
from course_lib.commands.options import MISSING, OWN_ELSE_SHIPPED, Refusal, note, option
from course_lib.language import say


def export(
    checkpoint: Annotated[
        Path | None, typer.Argument(metavar="CHECKPOINT", help="The checkpoint folder.", show_default=OWN_ELSE_SHIPPED)
    ] = None,
    out: Annotated[Path, option(metavar="DIR", help="Where to write the files.")] = Path("build/export"),
) -> None:
    """Write a model as ONNX, with its vocabulary and its instructions as JSON.

    onnxruntime opens the files, also in a browser, where they need no Python. There are two models: model.onnx is the
    same as the checkpoint, and model-int8.onnx is half as large and nearly as good.
    """
    if any(find_spec(name) is None for name in ("onnx", "onnxscript")):
        raise Refusal(say(MISSING, extra="export"))
    from course_lib.checkpoints import load_checkpoint
    from course_lib.export import export

    folder = paths.own_or_shipped(checkpoint)
    export(load_checkpoint(folder), out)
    for file in sorted(out.iterdir()):
        print(f"{file.stat().st_size:>10,}  {out / file.name}")
    if not checkpoint:
        note(say("{folder} is used", folder=folder))
