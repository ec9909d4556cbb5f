"""How fast poems are written: this course and `transformers`, on the same checkpoint folder, taking turns.

python benchmarks/generate.py               two minutes on two cores
python benchmarks/generate.py --save        … and write the figures to benchmarks/results
python benchmarks/generate.py --repeats 3   less
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from results import add_save_option, save
from transformers import LlamaForCausalLM
from transformers.utils import logging

from course_lib import paths
from course_lib.checkpoints import load_checkpoint
from course_lib.engine.machine import Machine
from course_lib.generation import generate, generation_limits, iter_poems, prompt_ids, write
from course_lib.poems import DEMO_TITLE, load_poems
from course_lib.sampling import GenerationSettings

NEW_TOKENS = 80
SETTINGS = GenerationSettings(max_new_tokens=NEW_TOKENS)
SIZES = (1, 16, 64)
Run = Callable[[], object]


def seconds(run: Run) -> float:
    """How long a run takes, the work it left to a GPU included."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def take_turns(runs: dict[str, Run], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one round to warm up. A busy moment of the machine slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            spent = seconds(run)
            if turn:
                times[name].append(spent)
    return {name: statistics.median(spent) for name, spent in times.items()}


def measure(repeats: int, folder: str) -> tuple[dict[str, Any], str]:
    """Print the tables. Returns the figures and the name of the machine."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    machine = Machine.choose()
    device = machine.device
    checkpoint = load_checkpoint(folder, device)
    tokenizer = checkpoint.tokenizer
    titles = [poem.title for poem in load_poems("test")]
    print(f"{machine.full_name}; PyTorch {torch.__version__}; {NEW_TOKENS} new tokens a poem\n")
    types = (torch.float32, *({machine.precision} - {torch.float32}))
    theirs = {t: LlamaForCausalLM.from_pretrained(folder, dtype=t).to(device).eval() for t in types}

    def run_theirs(prompts: Sequence[list[int]], dtype: torch.dtype, cache: str | None) -> None:
        width = max(map(len, prompts))
        ids = torch.tensor([[tokenizer.pad_id] * (width - len(p)) + p for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        limits = {"min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS, "cache_implementation": cache}
        sampling = {"do_sample": True, "temperature": SETTINGS.temperature, "top_p": SETTINGS.top_p, "top_k": 0}
        theirs[dtype].generate(ids, attention_mask=mask, **limits, **sampling, pad_token_id=tokenizer.pad_id)

    def run_ours(prompts: Sequence[list[int]]) -> None:
        limits = generation_limits(checkpoint)._replace(end_id=None)
        for _ in generate(checkpoint.model, prompts, SETTINGS, limits):
            pass

    speeds: dict[str, int] = {}
    ratios: dict[str, dict[str, float]] = {"float32": {}, "any": {}}  # transformers in this type; in the best one
    print("titles at once   tokens/s   the course is faster by")
    for size in SIZES:
        prompts = [prompt_ids(checkpoint, title) for title in titles[:size]]
        runs: dict[str, Run] = {"course_lib, float32": partial(run_ours, prompts)}
        for dtype in types:
            for cache in (None, "static"):
                label = f"transformers, {str(dtype).removeprefix('torch.')}, {cache or 'dynamic'} cache"
                runs[label] = partial(run_theirs, prompts, dtype, cache)
        times = take_turns(runs, repeats)
        ours = times["course_lib, float32"]
        speeds[str(size)] = round(size * NEW_TOKENS / ours)
        for kind, name in (("float32", "transformers, float32"), ("any", "transformers")):
            best = min(spent for label, spent in times.items() if label.startswith(name))
            ratios[kind][str(size)] = round(best / ours, 2)
        for label, spent in times.items():
            print(f"{size:14} {size * NEW_TOKENS / spent:10,.0f}   {spent / ours:23.1f}   {label}")

    firsts = [seconds(lambda: next(iter(write(checkpoint, DEMO_TITLE)))) for _ in range(4 * repeats)]
    figures = {
        "tokens_per_second": speeds,
        "times": ratios,
        "first_character_ms": round(1e3 * statistics.median(firsts), 1),
        "seconds_for_1000_titles": round(seconds(lambda: list(iter_poems(checkpoint, titles))), 1),
    }
    print(f"\nfirst character after {figures['first_character_ms']} ms")
    print(f"{len(titles):,} test titles in {figures['seconds_for_1000_titles']} s")
    return figures, machine.full_name


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="rounds that count (7)")
    parser.add_argument("--checkpoint", default=str(paths.FINETUNED), help="checkpoint folder")
    add_save_option(parser, "generate")
    chosen = parser.parse_args()
    figures, machine = measure(chosen.repeats, chosen.checkpoint)
    if chosen.save:
        print(save(chosen.save, figures, machine))
