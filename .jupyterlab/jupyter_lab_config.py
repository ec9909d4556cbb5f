"""The settings of JupyterLab as `make lab` starts it."""

from pathlib import Path
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"


def without_dead_widgets(model: dict[str, Any], **_: object) -> None:
    """Before a notebook is saved, remove its widgets; their static form stays.

    A widget exists only in its kernel. Without the kernel JupyterLab would show "Error displaying widget" there.
    """
    if model["type"] == "notebook":
        model["content"]["metadata"].pop("widgets", None)
        for cell in model["content"]["cells"]:
            for output in cell.get("outputs", []):
                output.get("data", {}).pop(WIDGET, None)


here = Path(__file__).resolve().parent
c = get_config()  # type: ignore[name-defined]  # noqa: F821  # Jupyter provides it
c.ContentsManager.pre_save_hook = without_dead_widgets
c.LabApp.app_settings_dir = str(here)  # overrides.json: JupyterLab asks no question and fetches no news
c.ServerApp.root_dir = str(here.parent)
