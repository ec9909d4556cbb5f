"""How fast poems are written: this course and `transformers`, on the same checkpoint folder, taking turns.

    python benchmarks/generate.py                 two minutes on two cores
    python benchmarks/generate.py --repeats 3     less
    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/generate.py --processor-time    beside another program

What the figures were, and what was tried and given up, is in `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from transformers import LlamaForCausalLM
from transformers.utils import logging

from course_lib.checkpoints import load_checkpoint
from course_lib.engine.machine import choose_device, choose_precision
from course_lib.generation import GenerationSettings, generate, marks, prompt_ids, write, write_many
from course_lib.inference import CachedModel
from course_lib.poems import DEMO_TITLE, load_poems
from course_lib.recipes.recipe import FINETUNED

NEW_TOKENS = 80
SETTINGS = GenerationSettings(max_new_tokens=NEW_TOKENS)
Run = Callable[[], object]
clock = time.perf_counter


def seconds(run: Run) -> float:
    """How long a run takes, the work it left to a GPU included."""
    start = clock()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def take_turns(runs: dict[str, Run], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one round to warm up; a busy moment of the machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            spent = seconds(run)
            if turn:
                times[name].append(spent)
    return {name: statistics.median(spent) for name, spent in times.items()}


def main(repeats: int, folder: str) -> None:
    """Print the tables."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device = choose_device()
    checkpoint = load_checkpoint(folder, device)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    titles = [poem.title for poem in load_poems("test")]
    sizes = (1, 16) if device.type == "cpu" else (1, 16, 256)
    print(f"{device}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}; {NEW_TOKENS} new tokens a poem\n")

    types = (torch.float32, *({choose_precision(device)} - {torch.float32}))  # bf16 where it is of any use
    theirs = {t: LlamaForCausalLM.from_pretrained(folder, dtype=t).to(device).eval() for t in types}

    def run_theirs(prompts: Sequence[list[int]], dtype: torch.dtype, cache: str | None) -> None:
        width = max(map(len, prompts))
        ids = torch.tensor([[tokenizer.pad_id] * (width - len(p)) + p for p in prompts], device=device)
        seen = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        limits = {"min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS, "cache_implementation": cache}
        sampling = {"do_sample": True, "temperature": SETTINGS.temperature, "top_p": SETTINGS.top_p, "top_k": 0}
        theirs[dtype].generate(ids, attention_mask=seen, **limits, **sampling, pad_token_id=tokenizer.pad_id)

    def run_ours(prompts: Sequence[list[int]]) -> None:
        for _ in generate(model, prompts, SETTINGS, **{**marks(tokenizer), "end_id": None}):
            pass

    print("titles at once   tokens/s   ours is faster by")
    for size in sizes:
        prompts = [prompt_ids(tokenizer, title) for title in titles[:size]]
        runs: dict[str, Run] = {"course_lib, float32": lambda p=prompts: run_ours(p)}
        for dtype in types:
            for cache in (None, "static"):
                name = f"transformers, {str(dtype).removeprefix('torch.')}, {cache or 'dynamic'} cache"
                runs[name] = lambda p=prompts, d=dtype, c=cache: run_theirs(p, d, c)
        times = take_turns(runs, repeats)
        ours = times["course_lib, float32"]
        for name, spent in times.items():
            print(f"{size:14} {size * NEW_TOKENS / spent:10,.0f}   {spent / ours:17.1f}   {name}")

    firsts = [seconds(lambda: next(iter(write(checkpoint, DEMO_TITLE)))) for _ in range(4 * repeats)]
    print(f"\nfirst character after {1e3 * statistics.median(firsts):.1f} ms")
    start = clock()
    poems = write_many(checkpoint, titles)
    spent = clock() - start
    print(f"{len(poems):,} test titles in {spent:.1f} s, {sum(len(p.text) for p in poems) / spent:,.0f} characters/s")
    if device.type == "cpu":
        print(share_of_bandwidth(checkpoint.model, repeats))


@torch.inference_mode()
def share_of_bandwidth(model: torch.nn.Module, repeats: int) -> str:
    """Each token of a single poem reads all weights once; how near that comes to what memory can deliver."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    cached = CachedModel(model, [0], NEW_TOKENS + 1)  # type: ignore[arg-type]
    one = np.ones((1, 1), dtype=np.int64)
    cached.read(one)
    step = statistics.median(seconds(lambda: cached.read(one)) for _ in range(NEW_TOKENS))
    large = torch.ones(64 * 2**20)
    memory = large.numel() * 4 / statistics.median(seconds(large.sum) for _ in range(2 * repeats))
    return (
        f"a token: {weights / 1e6:.1f} MB of weights in {1e3 * step:.2f} ms, {weights / step / 1e9:.1f} GB/s; "
        f"memory delivers {memory / 1e9:.1f} GB/s, so this is {weights / step / memory:.0%} of the limit"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="rounds that count (7)")
    parser.add_argument("--checkpoint", default=str(FINETUNED), help="checkpoint folder")
    parser.add_argument(
        "--processor-time", action="store_true", help="count it, not time by the clock: for one thread on a shared core"
    )
    given = parser.parse_args()
    if given.processor_time:
        clock = time.process_time
    main(given.repeats, given.checkpoint)
