"""What a training step costs on a GPU: time, kernels and busy time of every peer, as its users run it and captured.

All contenders of a shape are in one process and take turns. A turn is a few steps that follow each other without a
word to the host, as in training; only its ends wait for the device.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.profiler import ProfilerActivity, profile

from lora2.common.errors import UserError
from lora2.experiments.bench.measure import Runner, make_batch, make_runner, ratio
from lora2.experiments.bench.peers import PEERS, Shape
from lora2.glue.loader import StepBatch
from lora2.runs.provenance import provenance
from lora2.training.build import build_accelerator
from lora2.training.captured.capturer import Capturer, CudaCapturer
from lora2.training.clock import PhaseClock
from lora2.training.step import emulated_products

Tell = Callable[[str], None]

# The encoders at their real depth: the number of kernels, which is what a step waits for, grows with it.
SHAPES: dict[str, Shape] = {
    "minilm_32x64": Shape("bert", 384, 6, 12, 1536, 32, 64),
    "deberta_v3_base_32x64": Shape("deberta-v2", 768, 12, 12, 3072, 32, 64),
    "deberta_v3_base_32x128": Shape("deberta-v2", 768, 12, 12, 3072, 32, 128),
    "roberta_large_32x128": Shape("roberta", 1024, 24, 16, 4096, 32, 128),
}
METHODS = ("ours", "adalora", "peft_lora", "peft_adalora", "bitfit", "head", "full")
FEWER_METHODS = {"roberta_large_32x128": ("ours", "peft_lora", "bitfit")}  # all of them would not fit into 80 GB
WARM_UP = 4  # turns that are not counted: libraries load, then the step is captured
STEPS = 5  # of a turn
PRECISION = "bf16"


@dataclass(frozen=True)
class Contender:
    """A method and how its steps are carried out.

    Attributes:
        method: a name of METHODS.
        step: eager, as its users run it; captured, as a run of ours is by default, so deterministic too; or fastest,
            captured and not deterministic.
    """

    method: str
    step: str


def contenders_of(shape: str) -> tuple[Contender, ...]:
    """Return who takes part on a shape of SHAPES: its methods, each eager and captured, and ours as fast as it goes."""
    methods = FEWER_METHODS.get(shape, METHODS)
    both = [Contender(method, step) for method in methods for step in ("eager", "captured")]
    return *both, Contender("ours", "fastest")


def measure_gpu(shapes: Mapping[str, Shape], rounds: int, tell: Tell) -> dict[str, Any]:
    """Time the steps of every contender on each shape, and return the figures as JSON.

    Args:
        shapes: by name.
        rounds: turns of each contender that are counted.
        tell: is given lines of progress.

    Returns:
        "provenance" with the card and versions, and "rows": of each shape and contender the milliseconds of a step
        (median and quartiles over the rounds), its kernels, their busy milliseconds, and `ours`, the median over
        rounds of our captured step over this one's.

    Raises:
        UserError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError(
            "gpu: torch sees no GPU here; on a machine with one, install torch's CUDA build (make install "
            "GPU=1), or measure steps, memory, padding and growth, which run anywhere"
        )
    rows: list[dict[str, Any]] = []
    for name, shape in shapes.items():
        found = compare(shape, contenders_of(name), build_accelerator(PRECISION), CudaCapturer, rounds, tell)
        rows += [{"shape": name, **row} for row in found]
        torch.cuda.empty_cache()
    return {"provenance": provenance(torch.cuda.get_device_name()), "precision": PRECISION, "rows": rows}


def compare(
    shape: Shape,
    contenders: Sequence[Contender],
    accelerator: Accelerator,
    new_capturer: Callable[[], Capturer],
    rounds: int,
    tell: Tell,
) -> list[dict[str, Any]]:
    """Let the contenders take turns, in a new order each round, and return a row for each.

    Args:
        shape: of the backbone and its batches.
        contenders: ours, captured, is among them.
        accelerator: of all of them.
        new_capturer: makes what captures the steps of one contender.
        rounds: turns of each that are counted.
        tell: is given lines of progress.
    """
    runners = {
        contender: make_runner(
            PEERS[contender.method],
            shape,
            accelerator,
            None if contender.step == "eager" else new_capturer(),
            deterministic=contender.step == "captured",
        )
        for contender in contenders
    }
    batch = make_batch(shape, accelerator.device)
    seconds: dict[Contender, list[float]] = {contender: [] for contender in contenders}
    order = np.random.default_rng(0)
    gc.collect()
    for index in range(WARM_UP + rounds):
        for number in order.permutation(len(contenders)):
            contender = contenders[number]
            took = take_turn(runners[contender], batch, first=index * STEPS)
            if index >= WARM_UP:
                seconds[contender].append(took / STEPS)
        tell(f"{shape.model_type} {shape.b}x{shape.s} round {index + 1 - WARM_UP} of {rounds}")
    ours = seconds[Contender("ours", "captured")]
    rows = []
    for contender, runner in runners.items():
        own = seconds[contender]
        kernels, busy = count_kernels(runner, batch, (WARM_UP + rounds) * STEPS)
        low, middle, high = statistics.quantiles([1000 * each for each in own], n=4)
        rows.append(
            {
                "method": contender.method, "step": contender.step, "ms": middle, "ms_q1": low, "ms_q3": high,
                "kernels": kernels, "busy_ms": busy, "ours": ratio(ours, own)["median"],
            }
        )  # fmt: skip
    for runner in runners.values():
        runner.train_step.close()
    return rows


def take_turn(runner: Runner, batch: StepBatch, first: int) -> float:
    """Do STEPS steps, and return their seconds; only before and after them the host waits for the device."""
    _wait(runner.device)
    begun = time.perf_counter()
    for step in range(first, first + STEPS):
        runner_step(runner, batch, step)
    _wait(runner.device)
    return time.perf_counter() - begun


def runner_step(runner: Runner, batch: StepBatch, step: int) -> None:
    """Do one step without a clock."""
    with emulated_products(runner.accelerator):
        runner.train_step(batch, step + 1, PhaseClock({}))


def count_kernels(runner: Runner, batch: StepBatch, step: int) -> tuple[int, float]:
    """Return how many kernels and copies a step starts on the GPU, and how many milliseconds they take together.

    Off a GPU there are none.
    """
    if runner.device.type != "cuda":
        return 0, 0.0
    # acc_events: else torch warns that it forgets what came before
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as seen:
        runner_step(runner, batch, step)
        torch.cuda.synchronize()
    return sum_kernels(seen.events())


def sum_kernels(events: Iterable[Any]) -> tuple[int, float]:
    """Return number and milliseconds of those events of a profile that ran on a GPU."""
    microseconds = [event.self_device_time_total for event in events if event.device_type.name == "CUDA"]
    return len(microseconds), sum(microseconds) / 1000


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
