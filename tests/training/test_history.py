"""Losses stay on the device until it is read anyway; the history is the same however seldom that is."""

import math

import pytest
import torch
from helpers.toys import Mlp
from helpers.training import TOTAL, lora2, trainer

from lora2.training.finite import DivergedError
from lora2.training.history import LossHistory
from lora2.training.loop import CancelledError, RunControl, Trainer
from lora2.training.state import TrainState


def started() -> TrainState:
    state = TrainState()
    state.tokens, state.seconds["forward"] = 100, 2.0
    return state


def test_what_is_noted_is_added_when_it_is_read():
    state, told = started(), []
    history = LossHistory(state, lambda step, numbers: told.append((step, numbers)))
    losses = {"loss/task": torch.tensor(1.5), "loss/orth_uv": torch.tensor(0.25)}
    history.note(1, 0.1, losses)
    losses["loss/task"].fill_(2.5)  # the next step overwrites it
    history.note(2, 0.2, losses)
    assert state.history["train"] == told == []
    history.read()
    assert state.history["train"] == [
        {"step": 1, "lr": 0.1, "loss/task": 1.5, "loss/orth_uv": 0.25},
        {"step": 2, "lr": 0.2, "loss/task": 2.5, "loss/orth_uv": 0.25},
    ]
    assert told == [
        (row["step"], {name: value for name, value in row.items() if name != "step"} | {"tokens_per_s": 50.0})
        for row in state.history["train"]
    ]
    history.read()
    assert len(state.history["train"]) == 2


def test_a_loss_that_is_not_finite_is_named_with_its_step():
    state = started()
    history = LossHistory(state, lambda *_: None)
    for step, loss in enumerate([1.0, math.nan, 2.0], start=7):
        history.note(step, 0.1, {"loss/task": torch.tensor(loss)})
    with pytest.raises(DivergedError, match=r"^step 7: the loss is not finite .*nan.*; lower recipe.lr"):
        history.read()
    assert [row["step"] for row in state.history["train"]] == [7]


def fitted(monkeypatch: pytest.MonkeyPatch, every: int, **control: object) -> TrainState:
    """A run whose device is read so often, as if it were a GPU."""
    monkeypatch.setattr(Trainer, "_is_read", lambda self, steps: steps % every == 0 or self._is_evaluated(steps))
    monkeypatch.setattr("lora2.training.loop.MONITOR_POINTS", 1)
    model = Mlp()
    run = trainer(model, lora2(model), eval_every=TOTAL)
    return Trainer(**{**vars(run), "control": RunControl(**control)}).fit()


def test_the_history_is_the_same_however_seldom_the_device_is_read(monkeypatch):
    told: list[int] = []
    often = fitted(monkeypatch, 1)
    seldom = fitted(monkeypatch, 5, log=lambda step, numbers: told.append(step))
    assert seldom.history == often.history
    assert [row["step"] for row in seldom.history["train"]] == list(range(1, TOTAL + 1))
    assert told == sorted(told)  # what a tracker takes


def test_a_checkpoint_has_the_losses_up_to_it(monkeypatch):
    saved = []
    monkeypatch.setattr(Trainer, "_save", lambda self, checkpoint: saved.append(checkpoint.state["train_state"]))
    steps = iter([False] * 6 + [True])
    with pytest.raises(CancelledError):
        fitted(monkeypatch, 100, stop=lambda: next(steps))
    assert [row["step"] for row in saved[-1]["history"]["train"]] == list(range(1, 8))
