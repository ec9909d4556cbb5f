"""How fast the course fine-tunes, beside other programs: `python benchmarks/finetune.py`.

Each contender runs in a process of its own, one after the other. All begin with the same weights and read the same
poems, about 32 poems a step, with AdamW. Products are bfloat16 or float32, whichever is faster on this machine. The
first steps, in which things are compiled, are timed apart. So are the matrix products of one of our steps, run by
themselves: no step can take less time. It needs `transformers` and `trl`:
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from results import add_save_option, save
from torch import Tensor, nn

from course_lib import paths
from course_lib.batches import IGNORE, Example, ceil_div, make_example, pack
from course_lib.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from course_lib.engine.chunked_loss import piece_for
from course_lib.engine.machine import Machine, product_times
from course_lib.model import ModelConfig
from course_lib.poems import load_poems
from course_lib.recipes import finetuning
from course_lib.roles import example_segments
from course_lib.training import Trainer, TrainingSettings

POEMS, POEMS_A_STEP, ROWS, CONTEXT = 2000, 32, 11, 256  # 11 packed rows hold about 32 poems
DENSE_ROWS, DENSE_WIDTH = 22, 128
WARM_UP = 4  # steps
MACHINE = Machine.choose("cpu")


@dataclass
class Clock:
    """Measures the steps of a contender for some seconds. `tokens` in a step leave out padding, `places` count it."""

    seconds: float
    tokens: float = 0.0
    places: float = 0.0
    products: Callable[[], None] | None = None  # the matrix products of a step, by themselves
    start: float = field(default_factory=time.perf_counter)
    ends: list[float] = field(default_factory=list)

    def tick(self) -> bool:
        """Note that a step has ended. Returns False when there are enough."""
        self.ends.append(time.perf_counter())
        return len(self.ends) <= WARM_UP + 2 or self.ends[-1] - self.ends[WARM_UP - 1] < self.seconds

    def result(self, parameters: int) -> dict[str, float]:
        """What was measured; FLOP/s count 6 × parameters × places."""
        import resource

        steps = [b - a for a, b in zip(self.ends[WARM_UP - 1 :], self.ends[WARM_UP:], strict=False)]
        own = {"times_its_products": median(steps) / seconds(self.products)} if self.products else {}
        return own | {
            "tokens_per_second": self.tokens / median(steps),
            "flops": 6 * parameters * self.places / median(steps),
            "padding": 1 - self.tokens / self.places,
            "warm_up_seconds": self.ends[WARM_UP - 1] - self.start,
            "first_step_seconds": self.ends[0] - self.start,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        }


# --- the contenders -------------------------------------------------------------------------------


def ours(clock: Clock, compiled: bool) -> None:
    """The course's loop over packed rows."""
    poems = load_poems("train")[:POEMS]
    recipe = finetuning(load_checkpoint(paths.BASE), poems, batch_size=ROWS)
    settings = TrainingSettings(steps=10**6, decay_fraction=0.0)
    trainer = Trainer(recipe, settings, Machine(MACHINE.device, MACHINE.precision, compiled))
    lengths = [len(example.input_ids) for example in read_examples(recipe.checkpoint)]
    clock.tokens = sum(lengths) / len(pack(lengths, CONTEXT)) * ROWS
    clock.places = ROWS * CONTEXT
    learned, predicted = map(int, recipe.count([next(recipe.batches.epoch(0))]))
    clock.products = products(recipe.checkpoint.model.config, learned, predicted)
    for _ in trainer:
        if not clock.tick():
            return


def products(config: ModelConfig, learned: int, predicted: int) -> Callable[[], None]:
    """All matrix products of a step on `ROWS` rows, forward and backward, in the types and shapes of the step."""
    size, mlp, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads

    def matrix(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=MACHINE.precision)

    def linear(rows: int, inputs: int, outputs: int) -> list[tuple[Tensor, Tensor]]:
        x, weight, gradient = matrix(rows, inputs), matrix(outputs, inputs), matrix(rows, outputs)
        return [(x, weight.T), (gradient, weight), (gradient.T, x)]

    shapes = [(size, size)] * 4 + [(size, mlp)] * 2 + [(mlp, size)]
    layer = [pair for inputs, outputs in shapes for pair in linear(ROWS * CONTEXT, inputs, outputs)]
    q, scores = matrix(ROWS * heads, CONTEXT, config.head_dim), matrix(ROWS * heads, CONTEXT, CONTEXT)
    layer += [(q, q.mT), (scores, q), (q, q.mT), (scores.mT, q), (scores, q), (scores.mT, q)]
    piece = piece_for(MACHINE.device)
    forward, *backward = linear(piece, size, config.vocab_size)
    loss = [forward] * ceil_div(predicted, piece) + backward * ceil_div(learned, piece)

    def run() -> None:
        for a, b in layer * config.num_hidden_layers + loss:
            a @ b

    return run


def seconds(run: Callable[[], None]) -> float:
    """How long a run takes, the median of ten."""
    times = []
    for _ in range(11):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def plain_loop(
    clock: Clock, batches: Callable[[list[Example], int], Iterator[tuple[Tensor, ...]]], compiled: bool
) -> None:
    """A loop over a `transformers` model, as tutorials have it."""
    checkpoint = load_checkpoint(paths.BASE).with_roles()
    examples = read_examples(checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        model = as_transformers(checkpoint, folder)
    model.train()
    called = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    while True:
        for ids, mask, labels in batches(examples, checkpoint.tokenizer.pad_id):
            clock.places = ids.numel()
            clock.tokens = clock.places if bool(mask.all()) else mean_length(examples) * POEMS_A_STEP
            with MACHINE.autocast():
                loss = called(input_ids=ids, attention_mask=None if mask.all() else mask, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if not clock.tick():
                return


def padded(examples: list[Example], pad_id: int) -> Iterator[tuple[Tensor, ...]]:
    """Ids, mask and labels: each poem in a row of 256, filled up with padding."""
    for start in range(0, POEMS - POEMS_A_STEP, POEMS_A_STEP):
        ids = torch.full((POEMS_A_STEP, CONTEXT), pad_id)
        labels = torch.full_like(ids, IGNORE)
        for row, example in enumerate(examples[start : start + POEMS_A_STEP]):
            ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
            labels[row, : len(example.labels)] = torch.tensor(example.labels)
        yield ids, (ids != pad_id).long(), labels


def dense(examples: list[Example], pad_id: int) -> Iterator[tuple[Tensor, ...]]:
    """Ids, mask and labels: the poems end to end, cut into rows; a poem sees the poem before it."""
    stream = torch.tensor([i for example in examples for i in example.input_ids])
    rows = stream[: len(stream) // DENSE_WIDTH * DENSE_WIDTH].view(-1, DENSE_WIDTH)
    for start in range(0, len(rows) - DENSE_ROWS, DENSE_ROWS):
        ids = rows[start : start + DENSE_ROWS]
        yield ids, torch.ones_like(ids), ids


def sft_trainer(clock: Clock, best: bool, compiled: bool = False) -> None:
    """`trl`'s trainer: as it comes; or at its best, packed, without gradient checkpointing and without metrics."""
    import datasets
    import transformers
    import trl

    class Tick(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_training_stop = not clock.tick()
            return control

    class WithoutMetrics(trl.SFTTrainer):
        def compute_loss(self, model: nn.Module, inputs: Any, *_: Any, **__: Any) -> Any:
            return model(**inputs, use_cache=False).loss

    checkpoint = load_checkpoint(paths.BASE).with_roles()
    examples = read_examples(checkpoint)
    columns = {"input_ids": [example.input_ids for example in examples]}
    settings: dict[str, Any] = {"per_device_train_batch_size": POEMS_A_STEP}
    if best:
        settings = {
            "per_device_train_batch_size": ROWS,
            "packing": True,
            "packing_strategy": "wrapped",  # "bfd" needs FlashAttention
            "gradient_checkpointing": False,
            "torch_compile": compiled,
        }
        clock.tokens = clock.places = ROWS * CONTEXT
    else:  # padded to the longest poem of each batch
        columns["completion_mask"] = [[int(label != IGNORE) for label in example.labels] for example in examples]
        lengths = [len(example.input_ids) for example in examples]
        longest = [max(lengths[i : i + POEMS_A_STEP]) for i in range(0, POEMS - POEMS_A_STEP, POEMS_A_STEP)]
        clock.places = sum(longest) / len(longest) * POEMS_A_STEP
        clock.tokens = mean_length(examples) * POEMS_A_STEP
    with tempfile.TemporaryDirectory() as folder:
        model = as_transformers(checkpoint, folder)
        arguments = trl.SFTConfig(
            output_dir=folder, max_length=CONTEXT, num_train_epochs=50, use_cpu=True,
            bf16=MACHINE.precision is torch.bfloat16, save_strategy="no", report_to=[], disable_tqdm=True, **settings,
        )  # fmt: skip
        trainer = (WithoutMetrics if best else trl.SFTTrainer)(
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset.from_dict(columns),
            processing_class=transformers.AutoTokenizer.from_pretrained(folder),
            callbacks=[Tick()],
        )
        trainer.train()


def read_examples(checkpoint: Checkpoint) -> list[Example]:
    """The poems of the benchmark as examples."""
    return [make_example(checkpoint.tokenizer, example_segments(p), CONTEXT) for p in load_poems("train")[:POEMS]]


def mean_length(examples: list[Example]) -> float:
    """The mean number of tokens of an example."""
    return sum(len(example.input_ids) for example in examples) / len(examples)


def as_transformers(checkpoint: Checkpoint, folder: str) -> Any:
    """The same weights as a `LlamaForCausalLM`, by way of a checkpoint in `folder`."""
    import transformers

    save_checkpoint(checkpoint, Path(folder), {}, "")
    return transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


CONTENDERS: dict[str, Callable[[Clock], None]] = {
    "ours, compiled": lambda clock: ours(clock, compiled=True),
    "ours, not compiled": lambda clock: ours(clock, compiled=False),
    "SFTTrainer as it comes": lambda clock: sft_trainer(clock, best=False),
    "SFTTrainer at its best": lambda clock: sft_trainer(clock, best=True),
    "SFTTrainer at its best, compiled": lambda clock: sft_trainer(clock, best=True, compiled=True),
    "transformers, padded to 256": lambda clock: plain_loop(clock, padded, compiled=False),
    "transformers, dense": lambda clock: plain_loop(clock, dense, compiled=False),
    "transformers, dense, compiled": lambda clock: plain_loop(clock, dense, compiled=True),
}


# --- all of them, in turn -------------------------------------------------------------------------


def peak() -> float:
    """FLOP/s of a large matrix product, the best of many."""
    size = 2048
    return 2 * size**3 / product_times(MACHINE.device, [MACHINE.precision], size)[MACHINE.precision]


def measured(name: str, seconds: float) -> dict[str, float] | str:
    """The figures of a contender, from a process of its own; or the last line of its error."""
    command = [sys.executable, __file__, "--contender", name, "--seconds", str(seconds)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    line = next((row for row in done.stdout.splitlines() if row.startswith("RESULT ")), None)
    return json.loads(line.removeprefix("RESULT ")) if line else done.stderr.strip().splitlines()[-1][:90]


def summary(contenders: Mapping[str, Mapping[str, float]], limit: float) -> dict[str, Any]:
    """The figures as `results/` keeps them: how many times as fast as each of the others the faster of ours is.

    `times_the_best`: as fast as the best of the others. `times_its_products`: a step, beside its matrix products.
    """
    speeds = {name: found["tokens_per_second"] for name, found in contenders.items()}
    best = max((speeds[name], name) for name in speeds if name.startswith("ours"))
    others = {name: round(best[0] / speed, 2) for name, speed in speeds.items() if not name.startswith("ours")}
    return {
        "precision": str(MACHINE.precision).removeprefix("torch."),
        "peak_gflops": round(limit / 1e9),
        "of_the_peak": contenders[best[1]]["of_the_peak"],
        "times_its_products": contenders[best[1]]["times_its_products"],
        "times": others,
        "times_the_best": min(others.values(), default=None),
        "contenders": contenders,
    }


def main() -> None:
    """Run the contenders and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12, help="how long to measure each contender (12)")
    parser.add_argument("--only", choices=CONTENDERS, nargs="*", default=list(CONTENDERS))
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    add_save_option(parser, "finetune")
    chosen = parser.parse_args()
    if chosen.contender:
        clock = Clock(chosen.seconds)
        CONTENDERS[chosen.contender](clock)
        parameters = sum(p.numel() for p in load_checkpoint(paths.BASE).model.parameters())
        print("RESULT", json.dumps(clock.result(parameters)))
        return
    limit = peak()
    print(f"{MACHINE.full_name}; a product of 2048 x 2048: {limit / 1e9:.0f} GFLOP/s")
    print("| contender | tokens/s | of the peak | × its products | padding | warm-up | first step | peak memory |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    contenders: dict[str, dict[str, float]] = {}
    for name in chosen.only:
        found = measured(name, chosen.seconds)
        if isinstance(found, str):
            print(f"| {name} | failed: {found} |", flush=True)
            continue
        found["of_the_peak"] = found.pop("flops") / limit
        contenders[name] = {key: round(value, 3) for key, value in found.items()}
        print(
            f"| {name} | {found['tokens_per_second']:,.0f} | {found['of_the_peak']:.0%} "
            f"| {contenders[name].get('times_its_products', '')} | {found['padding']:.0%} "
            f"| {found['warm_up_seconds']:.0f} s | {found['first_step_seconds']:.1f} s | {found['peak_gb']:.2f} GB |",
            flush=True,
        )
    if chosen.save:
        print(save(chosen.save, summary(contenders, limit), MACHINE.full_name))


if __name__ == "__main__":
    main()
