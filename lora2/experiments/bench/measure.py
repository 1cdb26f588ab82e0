"""Time whole training steps of several methods, interleaved, and the memory of each in a process of its own."""

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from lora2.experiments.bench.peers import PEERS, SHAPES, VOCABULARY, Shape, backbone
from lora2.glue.loader import MicroBatch, StepBatch
from lora2.glue.tasks import TASKS
from lora2.models.methods.base import Method
from lora2.training.build import build_accelerator
from lora2.training.captured.capturer import Capturer
from lora2.training.captured.forward import make_capturable
from lora2.training.captured.step import CapturedStep
from lora2.training.clock import PhaseClock
from lora2.training.finite import FiniteWatch
from lora2.training.state import trained_parameters
from lora2.training.step import Step, TrainStep, emulated_products

METHOD_PHASES = ("penalty", "method")  # regulariser; importance and allocation
RATE = 1e-4  # of learning: nothing diverges at it, and it costs the same as another


@dataclass(frozen=True)
class Timed:
    """Seconds of each timed step, and the median seconds of each phase."""

    seconds: list[float]
    phases: dict[str, float]


@dataclass
class Runner:
    """One method, ready to be timed: the trainer's own step, with clocks that wait for the device.

    Attributes:
        seconds: of each step so far, by phase.
    """

    train_step: Step
    accelerator: Accelerator
    method: Method
    seconds: list[dict[str, float]] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.accelerator.device
        return device

    def step(self, batch: StepBatch, index: int) -> float:
        """Do one training step on a batch that is on the device, and return its seconds."""
        phases: dict[str, float] = {}
        begun = self._now()
        with emulated_products(self.accelerator):
            self.train_step(batch, index, PhaseClock(phases, self._now))
        self.seconds.append(phases)
        return self._now() - begun

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def make_runner(
    apply: Callable[[nn.Module], Method],
    shape: Shape,
    accelerator: Accelerator,
    capturer: Capturer | None = None,
    *,
    deterministic: bool = False,
) -> Runner:
    """Build one method on a fresh backbone of the given shape, in the accelerator's precision.

    Args:
        capturer: captures its steps, after two that are not; None: they are eager.
        deterministic: whether a GPU must compute gradients the same way every time, as in a run.
    """
    model = backbone(shape).to(accelerator.device)  # before the method, whose state lives where the weights do
    if capturer is not None:
        make_capturable(model)
    method = apply(model)
    optimizer = torch.optim.AdamW(list(trained_parameters(method).values()), lr=RATE, fused=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    step = TrainStep(
        accelerator=accelerator,
        model=model,
        optimizer=optimizer,
        method=method,
        task=TASKS["rte"],  # two classes
        max_grad_norm=1.0,
        deterministic=deterministic,
        watch=FiniteWatch(accelerator.device),
    )
    return Runner(step if capturer is None else CapturedStep(step, capturer), accelerator, method)


def make_batch(shape: Shape, device: torch.device) -> StepBatch:
    """Return random tokens without padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (shape.b, shape.s), generator=generator)
    labels = torch.randint(0, 2, (shape.b,), generator=generator)
    tensors = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return StepBatch(np.arange(shape.b), [MicroBatch(tensors)]).to(device)


def interleaved(
    peers: Mapping[str, Callable[[nn.Module], Method]],
    shape: Shape,
    dtype: str,
    rounds: int,
    tell: Callable[[str], None],
) -> dict[str, Timed]:
    """Time one step of every peer in each round, in shuffled order; by peer.

    Args:
        dtype: fp32 or bf16.
        tell: is given a line of progress after each round.
    """
    accelerator = build_accelerator(dtype)
    runners = {name: make_runner(apply, shape, accelerator) for name, apply in peers.items()}
    batch, order = make_batch(shape, accelerator.device), np.random.default_rng(0)
    times: dict[str, list[float]] = {peer: [] for peer in peers}
    warm_up = 2
    gc.collect()
    for index in range(warm_up + rounds):
        for peer in order.permutation(list(peers)):
            seconds = runners[peer].step(batch, index + 1)
            if index >= warm_up:
                times[peer].append(seconds)
        tell(f"{dtype} round {index + 1 - warm_up} of {rounds}")
    return {peer: Timed(times[peer], _median_phases(runner.seconds[warm_up:])) for peer, runner in runners.items()}


def ratio(ours: Sequence[float], peer: Sequence[float]) -> dict[str, float]:
    """Return the median over rounds of ours / peer, with its quartiles, and the ratio of the fastest rounds."""
    each = [a / b for a, b in zip(ours, peer, strict=True)]
    low, _, high = statistics.quantiles(each, n=4)
    return {"median": statistics.median(each), "q1": low, "q3": high, "fastest": min(ours) / min(peer)}


def peak_above_backbone(peer: str, shape_name: str, dtype: str) -> float:
    """Return the bytes that five training steps need above the loaded backbone; to be called in a process of its own.

    On a GPU the allocator's count; on Linux the peak of the resident set, reset before the method is built.
    """
    shape, accelerator = SHAPES[shape_name], build_accelerator(dtype)
    device = accelerator.device
    batch = make_batch(shape, device)
    model = backbone(shape).to(device)
    with torch.no_grad():
        model(**{name: tensor[:1] for name, tensor in batch.parts[0].inputs.items()})  # libraries load now
    gc.collect()
    before = _memory_now(device)
    del model
    gc.collect()
    runner = make_runner(PEERS[peer], shape, accelerator)
    _reset_peak(device)
    for index in range(5):
        runner.step(batch, index + 1)
    return _peak(device) - before


def memory_in_own_process(peer: str, shape_name: str, dtype: str) -> float:
    """Return peak_above_backbone of a fresh process, in bytes."""
    code = f"from {__name__} import peak_above_backbone as p; print(p({peer!r}, {shape_name!r}, {dtype!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def best_device() -> torch.device:
    """Return the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _median_phases(steps: list[dict[str, float]]) -> dict[str, float]:
    return {phase: statistics.median(step[phase] for step in steps) for phase in steps[0]}


def _memory_now(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.memory_allocated(device))
    return _status_kib("VmRSS") * 1024.0


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return _status_kib("VmHWM") * 1024.0


def _status_kib(key: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key))
    return int(line.split()[1])
