"""Time whole training steps of several methods, interleaved, and the memory of each in a process of its own."""

import gc
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora2.core.bf16 import EmulatedProducts, needs_emulation
from lora2.experiments.bench.peers import PEERS, SHAPES, VOCABULARY, Shape, backbone
from lora2.models.methods.base import Method

METHOD_PHASES = ("penalty", "method")  # regulariser; importance and allocation


@dataclass(frozen=True)
class Timed:
    """Seconds of each timed step, and the median seconds of each phase."""

    seconds: list[float]
    phases: dict[str, float]


@dataclass
class Runner:
    """One method, ready to step: everything a training step does, phase by phase.

    `seconds` collects, per step, the seconds of each phase.
    """

    model: nn.Module
    method: Method
    optimizer: torch.optim.Optimizer
    dtype: str
    device: torch.device
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy  # of logits (b, classes) and labels (b,)
    seconds: list[dict[str, float]] = field(default_factory=list)

    def step(self, batch: dict[str, Tensor], index: int) -> float:
        """Forward, loss, backward, regulariser, clip, importance, optimizer, mask, zero; returns its seconds."""
        phases: dict[str, float] = defaultdict(float)
        begun = last = self._now()

        def done(phase: str) -> None:
            nonlocal last
            now = self._now()
            phases[phase] += now - last
            last = now

        with self._precision():
            logits = self.model(**{name: x for name, x in batch.items() if name != "labels"}).logits
        loss = self.loss(logits.float(), batch["labels"])
        done("forward")
        loss.backward()
        done("backward")
        penalties = self.method.penalties()
        if penalties:
            torch.stack(list(penalties.values())).sum().backward()
        done("penalty")
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        done("optimizer")
        with self.method.step(index, grads_finite=True):
            done("method")
            self.optimizer.step()
            done("optimizer")
        done("method")
        self.optimizer.zero_grad()
        done("optimizer")
        self.seconds.append(dict(phases))
        return self._now() - begun

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def _precision(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self.dtype != "fp32" and needs_emulation(self.device):
                stack.enter_context(EmulatedProducts())
            if self.dtype != "fp32":
                stack.enter_context(torch.autocast(self.device.type, torch.bfloat16))
            yield


def make_runner(apply: Callable[[nn.Module], Method], shape: Shape, dtype: str, device: torch.device) -> Runner:
    """Build one method on a fresh backbone of the given shape."""
    model = backbone(shape).to(device)  # before the method, whose state lives where the weights do
    method = apply(model)
    parameters = [p for group in method.groups for p in group.parameters.values()]
    return Runner(model, method, torch.optim.AdamW(parameters, lr=1e-4, fused=True), dtype, device)


def make_batch(shape: Shape, device: torch.device) -> dict[str, Tensor]:
    """Random tokens without padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (shape.b, shape.s), generator=generator)
    labels = torch.randint(0, 2, (shape.b,), generator=generator)
    return {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids).to(device), "labels": labels.to(device)}


def interleaved(
    peers: Mapping[str, Callable[[nn.Module], Method]],
    shape: Shape,
    dtype: str,
    rounds: int,
    device: torch.device,
    tell: Callable[[str], None],
) -> dict[str, Timed]:
    """One step of every peer in each round, in shuffled order; by peer."""
    runners = {name: make_runner(apply, shape, dtype, device) for name, apply in peers.items()}
    batch, order = make_batch(shape, device), np.random.default_rng(0)
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
    """Median over rounds of ours / peer, with its quartiles, and the ratio of the fastest rounds."""
    each = [a / b for a, b in zip(ours, peer, strict=True)]
    low, _, high = statistics.quantiles(each, n=4)
    return {"median": statistics.median(each), "q1": low, "q3": high, "fastest": min(ours) / min(peer)}


def peak_above_backbone(peer: str, shape_name: str, dtype: str) -> float:
    """Bytes that five training steps need above the loaded backbone; to be called in a process of its own.

    On a GPU the allocator's count; on Linux the peak of the resident set, reset before the method is built.
    """
    shape, device = SHAPES[shape_name], best_device()
    batch = make_batch(shape, device)
    model = backbone(shape).to(device)
    with torch.no_grad():
        model(input_ids=batch["input_ids"][:1], attention_mask=batch["attention_mask"][:1])  # libraries load now
    gc.collect()
    before = _memory_now(device)
    del model
    gc.collect()
    runner = make_runner(PEERS[peer], shape, dtype, device)
    _reset_peak(device)
    for index in range(5):
        runner.step(batch, index + 1)
    return _peak(device) - before


def memory_in_own_process(peer: str, shape_name: str, dtype: str) -> float:
    """peak_above_backbone of a fresh process, in bytes."""
    code = f"from {__name__} import peak_above_backbone as p; print(p({peer!r}, {shape_name!r}, {dtype!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def best_device() -> torch.device:
    """The GPU where there is one."""
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
