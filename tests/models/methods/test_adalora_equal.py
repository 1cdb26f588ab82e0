"""AdaLoRA on the stacks is PEFT's: in its scores, its masks, its losses, and a whole training."""

from collections.abc import Iterator

import pytest
import torch
from helpers.adalora import ALPHA, SETTINGS, TOTAL, Look, R, look_at_ours, train
from helpers.toys import KINDS, encoder, tokens
from torch import Tensor, nn

from lora2.core.layers import LoRA2Linear
from lora2.models.methods.adalora import AdaLoRA
from lora2.models.methods.adalora_peft import PeftAdaLoRA
from lora2.models.methods.build import build


def both(kind: str, configure, *more: str) -> tuple[nn.Module, PeftAdaLoRA, nn.Module, AdaLoRA]:
    """PEFT's and ours on equal backbones with equal starts."""
    models = [encoder(kind).eval() for _ in range(2)]
    torch.manual_seed(1)
    theirs = build(models[0], configure(*SETTINGS, "method.impl=peft", *more), TOTAL)
    ours = build(models[1], configure(*SETTINGS, *more), TOTAL)
    assert isinstance(theirs, PeftAdaLoRA)
    assert isinstance(ours, AdaLoRA)
    copy_start(models[0], models[1])
    return models[0], theirs, models[1], ours


def pairs(theirs: nn.Module, ours: nn.Module) -> Iterator[tuple[nn.Module, LoRA2Linear]]:
    """The layers of both, matrix by matrix."""
    for name, layer in ours.named_modules():
        if isinstance(layer, LoRA2Linear):
            yield theirs.get_submodule(name), layer


@torch.no_grad()
def copy_start(theirs: nn.Module, ours: nn.Module) -> None:
    for peft, layer in pairs(theirs, ours):
        factors = layer.stack.factors
        factors.u[layer.index].copy_(peft.lora_A["default"])
        factors.lam[layer.index].copy_(peft.lora_E["default"].flatten())
        factors.U[layer.index].copy_(peft.lora_B["default"].T)


def look_at_pefts(method: PeftAdaLoRA) -> Look:
    """PEFT's own numbers: the scores as its mask_to_budget adds them up, the mask from its rank pattern."""
    last = [torch.zeros(0)]

    def look() -> tuple[Tensor, Tensor, Tensor]:
        allocator, config = method._tuner.rankallocator, method._tuner.peft_config["default"]
        if allocator.exp_avg_ipt:
            last[0] = torch.stack([pefts_score(allocator, name) for name in method._singular()])
        pattern = config.rank_pattern or {name: [True] * R for name in method._singular()}
        mask = torch.tensor([pattern[name] for name in method._singular()])
        return last[0], mask, torch.stack([p.detach().flatten().clone() for p in method._singular().values()])

    return look


def pefts_score(allocator, name: str) -> Tensor:
    a, e, b = (allocator._element_score(name.replace("lora_E", f"lora_{part}")) for part in "AEB")
    sides = torch.cat([a.mean(1, keepdim=True), b.mean(0).view(-1, 1)], dim=1)
    return allocator._combine_ipt(e, sides)


@pytest.mark.parametrize("interval", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_training_is_pefts(kind, interval, configure):
    model, theirs, own, ours = both(kind, configure, f"budget.interval={interval}")
    expected = train(model, theirs, look_at_pefts(theirs))
    seen = train(own, ours, look_at_ours(ours))
    torch.testing.assert_close(seen.losses, expected.losses, rtol=1e-5, atol=0)
    torch.testing.assert_close(seen.penalties, expected.penalties, rtol=1e-5, atol=0)
    for (scores, mask, values), (pefts_scores, pefts_mask, pefts_values) in zip(
        seen.looks, expected.looks, strict=True
    ):
        torch.testing.assert_close(scores, pefts_scores, rtol=1e-4, atol=1e-12)
        assert torch.equal(mask, pefts_mask)
        assert torch.equal(values == 0, pefts_values == 0)
    counts, reference = ours.count_parameters(), theirs.count_parameters()
    assert counts == reference
    assert len(set(counts.ranks.values())) > 1
    assert len({tuple(mask.flatten().tolist()) for _, mask, _ in seen.looks}) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_forward_pass_is_pefts_with_the_guard_in_its_scale(kind, configure):
    model, _, own, _ = both(kind, configure)
    with torch.no_grad():
        for peft, layer in pairs(model, own):
            peft.lora_E["default"].fill_(2.0)
            layer.stack.lam.fill_(2.0)
    torch.testing.assert_close(own(**tokens()).logits, model(**tokens()).logits, rtol=1e-5, atol=1e-6)
    assert all(layer.stack.scale == pytest.approx(ALPHA / (R + 1e-5), rel=1e-12) for _, layer in pairs(model, own))


def test_bf16_is_near_pefts(configure):
    model, _, own, _ = both("bert", configure)
    with torch.no_grad():
        for peft, layer in pairs(model, own):
            peft.lora_E["default"].fill_(2.0)
            layer.stack.lam.fill_(2.0)
        exact = own(**tokens()).logits
        with torch.autocast("cpu", torch.bfloat16):
            errors = [float((net(**tokens()).logits.float() - exact).abs().max()) for net in (model, own)]
    assert 0 < errors[1] < 2 * errors[0]


def test_a_budget_that_ties_miss_is_an_error_as_with_pefts(configure):
    """At a rate of zero every score is zero, and all of them go."""
    for impl in ("peft", "stacked"):
        model = encoder("bert")
        method = build(model, configure(*SETTINGS, f"method.impl={impl}"), TOTAL)
        parameters = [p for group in method.groups for p in group.parameters.values()]
        optimizer = torch.optim.SGD(parameters, lr=0.0)
        for step in range(TOTAL):
            model(**tokens()).logits.sum().backward()
            with method.step(step, True):
                optimizer.step()
            optimizer.zero_grad()
        with pytest.raises(RuntimeError, match="final budget missed: 24 wanted, mask keeps 0"):
            method.count_parameters()
