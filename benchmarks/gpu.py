"""What the course does on a GPU, in under three minutes: `python benchmarks/gpu.py`. Run it first on a new card.

It prints the speed of matrix products, and of the course's own loop at two sizes of the model. Then come the time of
preparing the data, the length of notebook 4's long run, and how far the losses are from those of the CPU.
`--device cpu --small` runs the same code on a CPU in less than a minute. Its figures say nothing about a GPU.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from results import add_save_option, save

from course_lib import paths
from course_lib.batches import InstructionBatches
from course_lib.checkpoints import Checkpoint, load_checkpoint
from course_lib.engine.chunked_loss import loss_sums
from course_lib.engine.machine import PRECISIONS, Machine, product_times, release_memory
from course_lib.instructions import POEM
from course_lib.model import ModelConfig, PoetryModel
from course_lib.poems import Poem, load_poems
from course_lib.recipes import Recipe, finetuning, pretraining
from course_lib.roles import plain_conversations
from course_lib.schedule import schedule
from course_lib.training import Trainer, TrainingSettings

OPTIMIZERS: tuple[Literal["adamw", "muon"], ...] = ("adamw", "muon")


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    products: tuple[int, int]  # sizes of square matrices
    poems: int | None  # None: all
    rows: int  # in a step; the large model reads a quarter
    hidden_size: int
    layers: int
    large: tuple[int, int]  # hidden size and layers of the large model
    seconds: float  # for each speed


def plan_for(machine: Machine, small: bool) -> Plan:
    """The plan for this machine: the rows of a step are those of notebook 4."""
    if small:
        return Plan((64, 128), 60, 4, 32, 2, (64, 2), seconds=0.1)
    return Plan((512, 4096), None, schedule(machine).batch_size, 256, 6, (768, 12), seconds=4)


# --- an estimate for a card that is not at hand ---------------------------------------------------


@dataclass(frozen=True)
class Card:
    """A GPU by its data sheet: FLOP/s of 16-bit products, how much of that a training run reaches, and bytes/s."""

    name: str
    flops: float
    reached: float
    bytes_per_second: float


T4 = Card("T4", 65e12, 0.3, 320e9)


def estimated_tokens_per_second(config: ModelConfig, card: Card) -> float:
    """How many tokens a second the card would train, from products and bytes. It is an estimate, not a measurement.

    Products: 6 FLOP for each weight and token. Bytes: a layer reads and writes about 20 vectors of the hidden size and
    8 of the MLP's, three times (once forward, twice backward), 2 bytes a number; the logits pass by 8 times. Products
    and memory do not overlap.
    """
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in PoetryModel(config).parameters())
    numbers = config.num_hidden_layers * 3 * 2 * (20 * config.hidden_size + 8 * config.intermediate_size)
    numbers += 8 * config.vocab_size
    return 1 / (6 * parameters / (card.reached * card.flops) + 2 * numbers / card.bytes_per_second)


# --- the measurements -----------------------------------------------------------------------------


def synchronize(machine: Machine) -> None:
    """Wait until a GPU has done its work."""
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)


def products(machine: Machine, sizes: Sequence[int]) -> dict[str, dict[str, float]]:
    """TFLOP/s of the product of two square matrices: type → size → speed."""
    times = {size: product_times(machine.device, list(PRECISIONS.values()), size) for size in sizes}
    return {
        name: {str(size): round(2e-12 * size**3 / times[size][dtype], 3) for size in sizes}
        for name, dtype in PRECISIONS.items()
    }


def speed(recipe: Recipe, optimizer: Literal["adamw", "muon"], machine: Machine, seconds: float) -> dict[str, float]:
    """Tokens a second of the course's loop, padding not counted; the first steps compile and are timed apart."""
    release_memory()
    torch.compiler.reset()  # compiled code of earlier models would count towards the compiler's limit
    if machine.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(machine.device)
    recipe = replace(recipe, checkpoint=copy.deepcopy(recipe.checkpoint))
    settings = TrainingSettings(steps=10**6, learning_rate=1e-4, decay_fraction=0.0, optimizer=optimizer)
    steps = iter(Trainer(recipe, settings, machine))
    begin = time.perf_counter()
    first = [next(steps) for _ in range(3)][-1]
    synchronize(machine)
    start = time.perf_counter()
    last = next(steps)
    while time.perf_counter() - start < seconds:
        last = next(steps)
    synchronize(machine)
    spent = time.perf_counter() - start
    speed = (last.tokens_seen - first.tokens_seen) / spent
    parameters = sum(weight.numel() for weight in recipe.checkpoint.model.parameters())
    return {
        "tokens_per_second": round(speed),
        "ms_a_step": round(1e3 * spent / (last.step - first.step), 2),
        "warm_up_seconds": round(start - begin, 1),
        "peak_gb": round(peak_memory(machine), 2),
        "tflops": round(6e-12 * parameters * speed, 3),
    }


def peak_memory(machine: Machine) -> float:
    """The most memory held so far, in GB: on the GPU, or else by this process."""
    if machine.device.type == "cuda":
        return torch.cuda.max_memory_allocated(machine.device) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


@torch.no_grad()
def difference_of_losses(recipe: Recipe, machine: Machine) -> float:
    """How far the float32 loss of a batch on this device is from that on the CPU, as a share of it."""
    model = copy.deepcopy(recipe.checkpoint.model)
    expected, found = (
        loss_sums(model.to(device), next(recipe.batches.to(device).epoch(0))).means().whole
        for device in (torch.device("cpu"), machine.device)
    )
    return abs(found / expected - 1)


def seconds_to_prepare(checkpoint: Checkpoint, poems: Sequence[Poem], rows: int) -> float:
    """How long it takes to encode and pack the poems for fine-tuning."""
    start = time.perf_counter()
    conversations = plain_conversations(poems, [POEM])
    InstructionBatches.from_conversations(conversations, checkpoint.tokenizer, context=256, batch_size=rows)
    return time.perf_counter() - start


def measure(machine: Machine, plan: Plan) -> Iterator[tuple[str, Any]]:
    """Each group of figures with its name, as soon as it is there."""
    yield "products", (speeds := products(machine, plan.products))
    poems = load_poems("train")[: plan.poems]
    base = load_checkpoint(paths.BASE)
    if plan.hidden_size != base.model.config.hidden_size:
        base = replace(base, model=PoetryModel(ModelConfig.sized(len(base.tokenizer), plan.hidden_size, plan.layers)))
    yield "seconds_to_prepare", round(seconds_to_prepare(base.with_roles(), poems, plan.rows), 2)
    tuning = finetuning(base, poems, batch_size=plan.rows)
    reading = pretraining(poems, base.tokenizer, start=base, batch_size=plan.rows)
    yield "difference_of_losses", difference_of_losses(tuning, machine)
    fastest: float = 1.0
    for name, recipe in (("finetuning", tuning), ("pretraining", reading)):
        found = {kind: speed(recipe, kind, machine, plan.seconds) for kind in OPTIMIZERS}
        share = found["muon"]["tokens_per_second"] / found["adamw"]["tokens_per_second"]
        yield name, {**found, "muon_share": round(share, 3)}
        if recipe is tuning:
            fastest = found["adamw"]["tokens_per_second"]
    large = ModelConfig.sized(len(base.tokenizer), *plan.large)
    recipe = pretraining(poems, base.tokenizer, shape=large, batch_size=plan.rows // 4)
    found_large = speed(recipe, "adamw", machine, plan.seconds)
    precision = next(name for name, dtype in PRECISIONS.items() if dtype == machine.precision)
    peak = max(speeds[precision].values())
    yield "large", {**found_large, "share_of_products": round(found_large["tflops"] / peak, 3)}
    yield "notebook_4", long_run(tuning, machine, fastest)


def long_run(recipe: Recipe, machine: Machine, tokens_per_second: float) -> dict[str, float]:
    """The seconds of notebook 4's long run after compiling: here from the measured speed, on a T4 estimated."""
    plan = schedule(machine)
    _, predicted = recipe.count(list(recipe.batches.epoch(0)))
    poems = plan.poems or len(load_poems("train"))
    tokens = plan.epochs * poems * int(predicted) / len(recipe.poems)
    estimate = estimated_tokens_per_second(ModelConfig.sized(recipe.checkpoint.model.config.vocab_size), T4)
    return {
        "tokens": round(tokens),
        "seconds": round(tokens / tokens_per_second, 1),
        "t4_estimated_seconds": math.ceil(tokens / estimate),
    }


# --- what is printed ------------------------------------------------------------------------------


def lines(name: str, found: Any) -> Iterator[str]:
    """Rows of the table: what was measured, the figure, and what is wanted of an H200."""
    wanted = {"finetuning": "1,500,000", "pretraining": "2,000,000"}
    if name == "products":
        for kind, speeds in found.items():
            yield f"| products in {kind} | {', '.join(f'{size}²: {s:,.3g}' for size, s in speeds.items())} TFLOP/s | |"
    elif name == "seconds_to_prepare":
        yield f"| preparing the poems | {found} s | ≤ 3 s |"
    elif name == "difference_of_losses":
        yield f"| float32 loss beside the CPU's | {found:.1e} | ≤ 1e-5 |"
    elif name in wanted:
        for kind in OPTIMIZERS:
            yield row(f"{name}, {kind}", found[kind], f"≥ {wanted[name]} tokens/s")
        yield f"| {name}, Muon beside AdamW | {found['muon_share']:.2f} | ≥ 0.85 |"
    elif name == "large":
        yield row("the large model", found, "")
        yield f"| … share of the products' speed | {found['share_of_products']:.0%} | ≥ 35 % |"
    else:
        yield f"| notebook 4, long run of {found['tokens'] / 1e6:.1f} M tokens | {found['seconds']} s | ≤ 30 s |"
        yield f"| … the same on a T4, an estimate | {found['t4_estimated_seconds']} s | ≤ 900 s |"


def row(label: str, found: dict[str, float], wanted: str) -> str:
    """The row of a speed."""
    return (
        f"| {label} | {found['tokens_per_second']:,} tokens/s, {found['ms_a_step']} ms a step, "
        f"{found['warm_up_seconds']} s to compile, {found['peak_gb']} GB | {wanted} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print each row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda (default), mps or cpu")
    parser.add_argument("--small", action="store_true", help="a trial of this script: tiny models, nothing compiled")
    add_save_option(parser, "gpu")
    chosen = parser.parse_args(arguments)
    machine = Machine.choose(chosen.device, compiled=not chosen.small)
    plan = plan_for(machine, chosen.small)
    start = time.perf_counter()
    print(machine.full_name)
    if chosen.small or machine.device.type != "cuda":
        print("This is not the measurement: tiny models, or no CUDA. The column `wanted` does not apply.")
    print(f"{plan.rows} rows of 256 tokens a step\n\n| | measured | wanted of an H200 |\n|---|---|---|")
    figures: dict[str, Any] = {"rows": plan.rows, "precision": str(machine.precision).removeprefix("torch.")}
    for name, found in measure(machine, plan):
        figures[name] = found
        print("\n".join(lines(name, found)), flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s in all")
    if chosen.save:
        print(save(chosen.save, figures, machine.full_name))


if __name__ == "__main__":
    main()
