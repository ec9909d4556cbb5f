"""What the tests of the title box and of the chat box share."""

import threading
import time
from collections.abc import Callable

import torch

from course_lib.checkpoints import Checkpoint


def never_end(checkpoint: Checkpoint) -> None:
    """Change the model so that it never draws the end mark."""
    with torch.no_grad():
        embedding = checkpoint.model.model.embed_tokens.weight
        embedding.abs_()
        embedding[checkpoint.tokenizer.eos_id] *= -1


def threads(name: str) -> list[threading.Thread]:
    """The threads of this name that are running."""
    return [thread for thread in threading.enumerate() if thread.name == name]


def until(condition: Callable[[], object]) -> None:
    """Wait for it, on however slow a machine."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within a minute")
