"""The training step and its clock: every second of a step falls to one phase."""

from itertools import count

import numpy as np
from helpers.toys import Mlp
from helpers.training import lora2, split, trainer

from lora2.glue.collate import collate
from lora2.glue.loader import MicroBatch, StepBatch
from lora2.training.clock import PhaseClock


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
