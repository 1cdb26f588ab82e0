"""Dev scores are those of the model that was trained, and a run's check of itself judges the merge, not 16 bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from helpers.toys import encoder, randomise_factors
from helpers.training import lora2, recipe, trainer
from torch import Tensor

from lora2.core.layers import LoRA2Linear
from lora2.models.methods.lora2 import LoRA2
from lora2.training.evaluate import Evaluator
from lora2.training.loop import Trainer
from lora2.training.session import _check_forms
from lora2.training.step import emulated_products

OLD_TOLERANCE = 0.1  # of bf16, while forms were compared in bf16


def trained(precision: str, *, cancelling: bool = False) -> tuple[Trainer, LoRA2]:
    """A trainer as after training.

    Args:
        cancelling: ΔW is thousands of times W and acts on the mean of the hidden state, which LayerNorm makes zero: the
            model computes with W, and W + ΔW rounded to bf16 has next to nothing of it left.
    """
    model = encoder("bert")
    method = lora2(model, targets="qkv" if cancelling else "all")
    randomise_factors(method.adapter)
    with torch.no_grad():
        model.classifier.weight.mul_(100)  # logits of a trained head, not of a new one
        for stack in method.adapter.factor_stacks() if cancelling else ():
            stack.v.fill_(1.0)
            stack.lam.mul_(2000)
    run = trainer(model, method)
    AcceleratorState._reset_state(reset_partial_state=False)
    mixed = "no" if precision == "fp32" else precision
    run = replace(run, accelerator=Accelerator(cpu=True, mixed_precision=mixed), recipe=recipe(precision=precision))
    run.build_step()
    return run, method


def logits(run: Trainer, method: LoRA2, *, merged: bool) -> np.ndarray:
    """In the run's precision."""
    run.model.eval()
    with torch.no_grad(), emulated_products(run.accelerator):
        if not merged:
            return run.evaluator.logits(run.model, run.data.splits["validation"])
        with method.merged():
            return run.evaluator.logits(run.model, run.data.splits["validation"])


def test_a_sound_run_in_bf16_is_no_false_alarm():
    run, method = trained("bf16", cancelling=True)
    plain, merged = (logits(run, method, merged=merged) for merged in (False, True))
    assert abs(merged - plain).max() / max(1.0, abs(plain).max()) > OLD_TOLERANCE  # the alarm of before
    assert _check_forms(run) == {"merged_equals_unmerged": True, "exported_equals_unmerged": True}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("what", "check"), [("delta_weight", "merged"), ("lora_weights", "exported")])
def test_a_merge_that_is_wrong_by_a_percent_is_found(monkeypatch, precision, what, check):
    run, _ = trained(precision)
    right = getattr(LoRA2Linear, what)

    def wrong(self: LoRA2Linear) -> Tensor | tuple[Tensor, Tensor]:
        found = right(self)
        return (found[0], 1.01 * found[1]) if isinstance(found, tuple) else 1.01 * found

    monkeypatch.setattr(LoRA2Linear, what, wrong)
    checks = _check_forms(run)
    assert checks.pop(f"{check}_equals_unmerged") is False
    assert all(checks.values())


@pytest.mark.parametrize(("precision", "merged"), [("fp32", True), ("bf16", False)])
def test_an_evaluation_computes_what_was_trained(monkeypatch, precision, merged):
    run, method = trained(precision)
    expected, other = (logits(run, method, merged=x) for x in (merged, not merged))
    assert not np.array_equal(expected, other)
    seen = []
    of_evaluator = Evaluator.logits
    monkeypatch.setattr(Evaluator, "logits", lambda *given: seen.append(of_evaluator(*given)) or seen[-1])
    with emulated_products(run.accelerator):
        run.evaluator.score(run.model)
    np.testing.assert_array_equal(seen[-1], expected)
