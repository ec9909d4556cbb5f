"""How fast the course fine-tunes, beside what else one could use: `python benchmarks/finetune.py`.

Each contender runs in a process of its own, one after the other, from the same weights, on the same poems, with
about 32 poems a step and AdamW, the products in whichever of bf16 and float32 is faster on this machine. The first
steps, where things are compiled and warmed up, are timed apart. Needs `transformers` and `trl`:
`python -m pip install --editable ".[bench]" --constraint constraints.txt`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from course_lib.batches import IGNORE, Example, make_example
from course_lib.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from course_lib.engine.machine import choose_precision, product_times
from course_lib.poems import load_poems
from course_lib.recipes.recipe import BASE, finetuning
from course_lib.roles import example_segments
from course_lib.training import TrainingSettings

POEMS, A_STEP, ROWS, CONTEXT = 2000, 32, 11, 256  # 11 packed rows hold about 32 poems
WARM_UP = 4  # steps
FASTEST = choose_precision(torch.device("cpu"))
BF16 = FASTEST is torch.bfloat16


@dataclass
class Clock:
    """The duration of each step, and what the steps read."""

    seconds: float  # to measure for
    tokens: float = 0.0  # in a step, padding left out
    places: float = 0.0  # in a step, padding counted
    began: float = field(default_factory=time.perf_counter)
    ends: list[float] = field(default_factory=list)

    def tick(self) -> bool:
        """A step is done; False once it is enough."""
        self.ends.append(time.perf_counter())
        return len(self.ends) <= WARM_UP + 2 or self.ends[-1] - self.ends[WARM_UP - 1] < self.seconds

    def result(self) -> dict[str, float]:
        """Tokens and seconds a step, the warm-up, and the most memory this process has held."""
        import resource

        steps = [b - a for a, b in zip(self.ends[WARM_UP - 1 :], self.ends[WARM_UP:], strict=False)]
        return {
            "tokens": self.tokens,
            "places": self.places,
            "step_seconds": median(steps),
            "warm_up_seconds": self.ends[WARM_UP - 1] - self.began,
            "first_step_seconds": self.ends[0] - self.began,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        }


# --- the contenders -------------------------------------------------------------------------------


def read() -> tuple[Checkpoint, list[Example]]:
    """The base checkpoint with the roles, and the poems as examples."""
    checkpoint = load_checkpoint(BASE).with_roles()
    poems = load_poems("train")[:POEMS]
    return checkpoint, [make_example(checkpoint.tokenizer, example_segments(p), CONTEXT) for p in poems]


def ours(clock: Clock, compiled: bool) -> None:
    """The course's loop over packed rows."""
    poems = load_poems("train")[:POEMS]
    _, trainer = finetuning(
        load_checkpoint(BASE),
        TrainingSettings(steps=10**6, decay_fraction=0.0),
        poems,
        batch_size=ROWS,
        precision=FASTEST,
        compiled=compiled,
    )
    rows = trainer.batches
    clock.tokens = sum(len(e.input_ids) for e in rows.examples) / len(rows.rows) * ROWS  # type: ignore[attr-defined]
    clock.places = ROWS * CONTEXT
    for _ in trainer:
        if not clock.tick():
            return


def as_transformers(folder: str) -> Any:
    """The same weights as a `LlamaForCausalLM`."""
    import transformers

    checkpoint, _ = read()
    save_checkpoint(checkpoint, Path(folder), {}, "")
    return transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def plain_loop(clock: Clock, dense: bool, compiled: bool = False) -> None:
    """A loop as tutorials have it: every poem a row of 256, padded; or, dense, rows without padding."""
    checkpoint, examples = read()
    with tempfile.TemporaryDirectory() as folder:
        model = as_transformers(folder)
    model.train()
    called = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    pad = checkpoint.tokenizer.pad_id

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        if dense:
            stream = torch.tensor([i for e in examples for i in e.input_ids])
            width = 128
            rows = stream[: len(stream) // width * width].view(-1, width)
            for start in range(0, len(rows) - 22, 22):
                ids = rows[start : start + 22]
                yield ids, torch.ones_like(ids), ids
            return
        for start in range(0, POEMS - A_STEP, A_STEP):
            ids = torch.full((A_STEP, CONTEXT), pad)
            labels = torch.full_like(ids, IGNORE)
            for row, example in enumerate(examples[start : start + A_STEP]):
                ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
                labels[row, : len(example.labels)] = torch.tensor(example.labels)
            yield ids, (ids != pad).long(), labels

    while True:
        for ids, mask, labels in batches():
            clock.tokens, clock.places = mean_tokens(examples) if not dense else ids.numel(), ids.numel()
            with torch.autocast("cpu", FASTEST, enabled=BF16):
                loss = called(input_ids=ids, attention_mask=None if dense else mask, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if not clock.tick():
                return


def mean_tokens(examples: list[Example]) -> float:
    """Tokens in a step of so many poems."""
    return sum(len(e.input_ids) for e in examples) / len(examples) * A_STEP


def sft_trainer(clock: Clock, best: bool, compiled: bool = False) -> None:
    """`trl`'s trainer: as it comes, or packed, without gradient checkpointing and without its metrics."""
    import datasets
    import transformers
    import trl

    _, examples = read()
    with tempfile.TemporaryDirectory() as folder:
        model = as_transformers(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

        class Tick(transformers.TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
                control.should_training_stop = not clock.tick()
                return control

        class WithoutMetrics(trl.SFTTrainer):
            def compute_loss(self, model: nn.Module, inputs: Any, *_: Any, **__: Any) -> Any:
                return model(**inputs, use_cache=False).loss

        settings: dict[str, Any] = {"per_device_train_batch_size": A_STEP}
        clock.tokens = mean_tokens(examples)
        if best:
            settings = {
                "per_device_train_batch_size": ROWS,
                "packing": True,
                "packing_strategy": "wrapped",  # "bfd" wants FlashAttention
                "gradient_checkpointing": False,
                "torch_compile": compiled,
            }
            clock.tokens = clock.places = ROWS * CONTEXT
        else:  # padded to the longest poem of each batch
            lengths = [len(e.input_ids) for e in examples]
            longest = [max(lengths[i : i + A_STEP]) for i in range(0, POEMS - A_STEP, A_STEP)]
            clock.places = sum(longest) / len(longest) * A_STEP
        arguments = trl.SFTConfig(
            output_dir=folder, max_length=CONTEXT, num_train_epochs=50, use_cpu=True, bf16=BF16, save_strategy="no",
            report_to=[], disable_tqdm=True, **settings,
        )  # fmt: skip
        columns = {"input_ids": [e.input_ids for e in examples]}
        if not best:
            columns["completion_mask"] = [[int(label != IGNORE) for label in e.labels] for e in examples]
        trainer = (WithoutMetrics if best else trl.SFTTrainer)(
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset.from_dict(columns),
            processing_class=tokenizer,
            callbacks=[Tick()],
        )
        trainer.train()


CONTENDERS: dict[str, Callable[[Clock], None]] = {
    "ours, compiled": lambda clock: ours(clock, compiled=True),
    "ours, not compiled": lambda clock: ours(clock, compiled=False),
    "SFTTrainer as it comes": lambda clock: sft_trainer(clock, best=False),
    "SFTTrainer at its best": lambda clock: sft_trainer(clock, best=True),
    "SFTTrainer at its best, compiled": lambda clock: sft_trainer(clock, best=True, compiled=True),
    "transformers, padded to 256": lambda clock: plain_loop(clock, dense=False),
    "transformers, dense": lambda clock: plain_loop(clock, dense=True),
    "transformers, dense, compiled": lambda clock: plain_loop(clock, dense=True, compiled=True),
}


# --- all of them, in turn -------------------------------------------------------------------------


def peak() -> float:
    """FLOP/s of a matrix product, the best of many."""
    size = 2048
    return 2 * size**3 / product_times(torch.device("cpu"), [FASTEST], size)[FASTEST]


def main() -> None:
    """Run the contenders and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12, help="how long to measure each contender")
    parser.add_argument("--only", choices=CONTENDERS, nargs="*", default=list(CONTENDERS))
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contender:
        clock = Clock(chosen.seconds)
        CONTENDERS[chosen.contender](clock)
        print("RESULT", json.dumps(clock.result()))
        return
    parameters = sum(p.numel() for p in load_checkpoint(BASE).model.parameters())
    limit = peak()
    name = str(FASTEST).removeprefix("torch.")
    print(f"{name} product of 2048 x 2048: {limit / 1e9:.0f} GFLOP/s, {torch.get_num_threads()} threads")
    print("| contender | tokens/s | of the peak | padding | warm-up | first step | peak memory |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in chosen.only:
        command = [sys.executable, __file__, "--contender", name, "--seconds", str(chosen.seconds)]
        env = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        line = next((row for row in done.stdout.splitlines() if row.startswith("RESULT ")), None)
        if line is None:
            print(f"| {name} | failed: {done.stderr.strip().splitlines()[-1][:90]} |")
            continue
        r = json.loads(line.removeprefix("RESULT "))
        speed, flops = r["tokens"] / r["step_seconds"], 6 * parameters * r["places"] / r["step_seconds"]
        print(
            f"| {name} | {speed:,.0f} | {flops / limit:.0%} | {1 - r['tokens'] / r['places']:.0%} "
            f"| {r['warm_up_seconds']:.0f} s | {r['first_step_seconds']:.1f} s | {r['peak_gb']:.2f} GB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
