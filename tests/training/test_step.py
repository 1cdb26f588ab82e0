"""The training step and its clock: every second of a step falls to one phase."""

from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
import pytest
import torch
from helpers.toys import Mlp
from helpers.training import lora2, split, trainer

from lora2.glue.collate import collate
from lora2.glue.loader import MicroBatch, StepBatch
from lora2.training.clock import DeviceClock, PhaseClock, clock_for


def test_a_clock_adds_what_lies_between_two_laps():
    times = iter([0.0, 10.0, 12.0, 15.0, 115.0, 116.0])
    seconds = {"data": 1.0}
    clock = PhaseClock(seconds, lambda: next(times))
    clock.start()
    clock.lap("data")
    clock.lap("forward")
    clock.start()  # what lies before it belongs to no phase
    clock.lap("data")
    assert seconds == {"data": 1.0 + 2.0 + 1.0, "forward": 3.0}


def test_a_step_tells_every_phase():
    """With a clock that goes on by a second whenever it is read, a phase has as many seconds as laps."""
    model, data = Mlp(), split(4)
    train_step = trainer(model, lora2(model)).build_step()
    parts = [MicroBatch(collate(data, np.array(half), pad_id=0)) for half in ([0, 1], [2, 3])]
    ticks, seconds = count(), dict[str, float]()
    losses = train_step(StepBatch(np.arange(4), parts), 0, PhaseClock(seconds, lambda: float(next(ticks))))
    assert seconds == {"forward": 2, "backward": 2, "penalty": 1, "optimizer": 3, "method": 2}
    assert set(losses) == {"loss/task", "loss/orth_uv", "loss/orth_UV", "loss/orth_PQ"}
    assert all(loss.shape == () and not loss.requires_grad for loss in losses.values())


@dataclass
class Device:
    """A device that is asked for work and does it later; its clock stands until it is waited for."""

    asked: float = 0.0  # milliseconds of work so far
    waits: list[float] = field(default_factory=list)

    def event(self) -> "Mark":
        return Mark(self)


@dataclass
class Mark:
    """The part of torch.cuda.Event that the clock uses."""

    device: Device
    at: float = -1.0

    def record(self) -> None:
        self.at = self.device.asked

    def synchronize(self) -> None:
        self.device.waits.append(self.at)

    def elapsed_time(self, end: "Mark") -> float:
        assert self.device.waits[-1:] >= [end.at], "an event is asked for its time before the device was there"
        return end.at - self.at


def test_a_devices_phases_are_told_by_its_own_marks():
    device, seconds = Device(), {"forward": 1.0}
    clock = DeviceClock(seconds, device.event)
    for phase, milliseconds in (("forward", 20), ("backward", 30)):
        device.asked += milliseconds
        clock.lap(phase)
    device.asked += 500
    clock.start()  # what lies before it belongs to no phase
    device.asked += 7
    clock.lap("forward")
    assert seconds == {"forward": 1.0}
    assert device.waits == []  # nothing but `settle` waits
    clock.settle()
    assert seconds == {"forward": 1.0 + 0.02 + 0.007, "backward": 0.03}
    clock.settle()  # nothing is counted twice
    device.asked += 4
    clock.lap("backward")
    clock.settle()
    assert seconds == {"forward": 1.027, "backward": 0.034}


def test_a_cpu_has_the_hosts_clock():
    seconds: dict[str, float] = {}
    clock = clock_for(torch.device("cpu"), seconds)
    assert type(clock) is PhaseClock
    clock.lap("data")
    assert seconds["data"] > 0
    clock.settle()


@pytest.mark.parametrize("deterministic", [True, False])
def test_what_is_deterministic_covers_training_and_scores(deterministic):
    """Forward passes with and without gradients; else scores could come from other kernels than the training."""
    seen: set[tuple[bool, bool]] = set()
    model = Mlp()
    run = replace(trainer(model, lora2(model)), deterministic=deterministic)
    model.register_forward_pre_hook(
        lambda module, inputs: seen.add((torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()))
    )
    run.fit()
    assert seen == {(True, deterministic), (False, deterministic)}
    assert not torch.are_deterministic_algorithms_enabled()
