"""fp16 with a loss scale: a step whose gradients overflow teaches nobody anything.

On the processor, with torch's own scaler and autocast; where it overflows, the scale was set too high on purpose.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from helpers.runs import TINY, compose, folders
from helpers.toys import Mlp
from helpers.training import TOTAL, lora2, trainer
from torch import Tensor

from lora2.common.errors import UserError
from lora2.config.resolve import resolve
from lora2.training.checkpoint import CheckpointFolder
from lora2.training.loop import CancelledError, RunControl, Trainer
from lora2.training.run import run
from lora2.training.state import trained_parameters

FINAL = TOTAL - 4  # the step that fixes the masks for good
USUAL, TOO_HIGH = 2.0**10, 2.0**126


class Scaler(torch.amp.GradScaler):
    """torch's, but it overflows at step 0 and in the given ones."""

    def __init__(self, *overflows: int) -> None:
        super().__init__("cpu", init_scale=TOO_HIGH, backoff_factor=USUAL / TOO_HIGH, growth_interval=2)
        self.steps, self.overflows = itertools.count(1), overflows

    def update(self, new_scale: float | None = None) -> None:
        super().update(TOO_HIGH if next(self.steps) in self.overflows else new_scale)


class Watched:
    """LoRA² that notes whether each step was grads_finite, and whether anything changed that it could have changed."""

    def __init__(self, run: Trainer) -> None:
        self.run, self.method = run, run.method
        self.grads_finite: list[bool] = []
        self.unchanged: list[bool] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.method, name)

    def everything(self) -> dict[object, Tensor]:
        (optimizer,) = self.run.accelerator._optimizers
        moments = {(p, name): x for p, state in optimizer.state.items() for name, x in state.items()}
        tensors = {**moments, **trained_parameters(self.method), **self.method.stateful.state_dict()}
        return {key: x.detach().clone() for key, x in tensors.items()}

    @contextmanager
    def step(self, step: int, grads_finite: bool) -> Iterator[None]:
        before = self.everything()
        with self.method.step(step, grads_finite):
            yield
        after = self.everything()
        assert all(torch.isfinite(x).all() for x in after.values())
        self.grads_finite.append(grads_finite)
        # before the first step Adam has no moments; then they are zero
        self.unchanged.append(all(torch.equal(x, before.get(key, torch.zeros_like(x))) for key, x in after.items()))


def in_fp16(run: Trainer, scaler: Scaler) -> Trainer:
    """The run as it would be on a GPU."""
    AcceleratorState._reset_state(reset_partial_state=False)
    accelerator = Accelerator(cpu=True, mixed_precision="fp16")
    accelerator.native_amp, accelerator.scaler = True, scaler
    return replace(run, accelerator=accelerator)


def test_an_overflowed_step_changes_nothing():
    model = Mlp()
    run = in_fp16(trainer(model, lora2(model)), Scaler(4, 5, TOTAL - 1))
    watched = Watched(run)
    state = replace(run, method=watched).fit()
    assert [step for step, grads_finite in enumerate(watched.grads_finite) if not grads_finite] == [0, 4, 5, TOTAL - 1]
    assert [step for step, same in enumerate(watched.unchanged) if same] == [0, 4, 5, TOTAL - 1]
    assert state.steps == TOTAL
    assert run.accelerator.scaler.get_scale() == USUAL
    run.method.count_parameters()


def test_masks_are_fixed_in_time_even_in_an_overflowed_step():
    """By what the steps before it have taught."""
    model = Mlp()
    method = lora2(model, interval=100)  # so that FINAL is the first step to prune anything
    watched = Watched(in_fp16(trainer(model, method), Scaler(FINAL)))
    replace(watched.run, method=watched).fit()
    assert not watched.grads_finite[FINAL]
    assert not watched.unchanged[FINAL]
    method.count_parameters()


def test_the_scale_goes_through_a_checkpoint(tmp_path: Path):
    def scaled(stop_after: int) -> Trainer:
        model, steps = Mlp(), itertools.count(1)
        run = in_fp16(trainer(model, lora2(model)), Scaler())
        folder = CheckpointFolder(tmp_path, "run")
        return replace(run, control=RunControl(checkpoints=folder, stop=lambda: next(steps) == stop_after))

    whole, resumed = scaled(0), scaled(0)
    state = whole.fit()
    with pytest.raises(CancelledError):
        scaled(6).fit()
    again = resumed.fit(resumed.control.checkpoints.latest()[0])
    assert resumed.accelerator.scaler.get_scale() == whole.accelerator.scaler.get_scale() > USUAL
    assert again.history == state.history
    ours, theirs = trained_parameters(resumed.method), trained_parameters(whole.method)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_fp16_is_refused(tmp_path: Path):
    """accelerate would train in float32 and say nothing."""
    with pytest.raises(UserError, match=r"recipe\.precision: fp16 needs a GPU.*recipe\.precision=bf16"):
        run(resolve(compose(*TINY, *folders(tmp_path), "recipe.precision=fp16")))
    assert not (tmp_path / "results" / "runs").exists()
