"""AdaLoRA under the project's loop: the budget is met exactly, losses are apart, PEFT's allocator agrees with ours."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lora2.common.errors import UserError
from lora2.core.budget import BudgetSchedule
from lora2.core.functional import singular_value_scores, top_mask, update_importance
from lora2.models.methods.build import build

SHORT = ("method=adalora", "method.impl=peft", "budget.t_i=2", "budget.t_f=3", "budget.interval=2")


@pytest.mark.parametrize(("r", "target"), [(4, 2), (3, 1), (2, 2), (1, 1)])
def test_it_ends_at_its_budget_exactly(r, target, configure, tiny, train):
    method = build(tiny, configure(*SHORT, f"rank.r={r}", f"budget.target_rank={target}"), 12)
    train(tiny, method, 12)
    counts = method.count_parameters()
    assert sum(counts.ranks.values()) == target * 12  # 2 layers of 6 matrices
    alive = sum(int(p.count_nonzero()) for name, p in tiny.named_parameters() if "lora_E" in name)
    assert alive == target * 12
    assert counts.active_adapter <= counts.adapter
    assert (counts.active_adapter == counts.adapter) == (r == target)


def test_an_overflow_at_the_deciding_step_does_not_lose_the_budget(configure, tiny, train):
    method = build(tiny, configure(*SHORT, "rank.r=4", "budget.target_rank=2"), 12)
    grads_finite = method.step
    method.step = lambda step, _: grads_finite(step, step != 9)  # T - t_f
    train(tiny, method, 12)
    assert sum(method.count_parameters().ranks.values()) == 24


def test_a_missed_budget_is_an_error(configure, tiny, train):
    method = build(tiny, configure(*SHORT, "rank.r=4", "budget.target_rank=2"), 12)
    train(tiny, method, 5)
    with pytest.raises(RuntimeError, match="final budget missed: 24 wanted"):
        method.count_parameters()


def test_its_state_goes_through_a_checkpoint(configure, tiny, train):
    cfg = configure(*SHORT, "rank.r=4", "budget.target_rank=2")
    old = build(copy.deepcopy(tiny), cfg, 12)
    train(old._tuner.model, old, 7)
    state = {name: tensor.clone() for name, tensor in old.stateful.state_dict().items()}
    new = build(tiny, cfg, 12)
    new.stateful.load_state_dict(state)
    assert new._kept() == old._kept()
    restored = new.stateful.state_dict()
    assert state.keys() == restored.keys()
    assert all(torch.equal(restored[name], tensor) for name, tensor in state.items())


def test_without_a_budget_nothing_is_pruned(configure, tiny, train):
    cfg = configure("method=adalora", "method.impl=peft", "budget=none", "rank.r=3")
    method = build(tiny, cfg, 4)
    train(tiny, method, 4)
    assert set(method.count_parameters().ranks.values()) == {3}
    assert cfg.variant == "adalora_r3"


def test_the_models_own_loss_has_no_regulariser(configure, tiny, tokens):
    labels = tokens[:, 0] % 2
    build(tiny, configure(*SHORT), 12)
    output = tiny(tokens, labels=labels)
    torch.testing.assert_close(output.loss, nn.functional.cross_entropy(output.logits, labels))


def test_the_penalty_is_pefts_regulariser(configure, tiny, tokens):
    method = build(tiny, configure(*SHORT, "method.penalty.weight=0.3"), 12)
    tuner = method._tuner
    tuner.peft_config["default"].orth_reg_weight = 0.3
    with_it = tuner(tokens, labels=tokens[:, 0] % 2).loss
    without = tiny(tokens, labels=tokens[:, 0] % 2).loss
    torch.testing.assert_close(method.penalties()["PQ"], with_it - without, rtol=1e-5, atol=1e-6)


def test_gamma_zero_has_no_penalty(configure, tiny):
    assert build(tiny, configure(*SHORT, "method.penalty.weight=0"), 12).penalties() == {}


def test_scores_and_masks_equal_ours_on_the_same_gradients(configure, tiny):
    """Q, Λ, P of AdaLoRA play the parts of u, Λ, 𝒰 in eq. 9: a value, and the mean of its entries on each side."""
    total, r, target = 20, 4, 2
    method = build(
        tiny,
        configure(
            "method=adalora",
            "method.impl=peft",
            f"rank.r={r}",
            f"budget.target_rank={target}",
            "budget.t_i=3",
            "budget.t_f=4",
            "budget.interval=3",
        ),
        total,
    )
    schedule = BudgetSchedule(total, 12 * r, 12 * target, 3, 4, 3)
    parameters = dict(method.groups[0].parameters)
    ours = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in parameters.items()}
    matrices = [name for name in parameters if "lora_E" in name]
    renewed, generator = 0, torch.Generator().manual_seed(1)
    for step in range(total - 4 + 1):
        for name, p in parameters.items():
            p.data = torch.randn(p.shape, generator=generator)
            p.grad = torch.randn(p.shape, generator=generator)
            if step < schedule.final:
                update_importance(*([x] for x in (*ours[name], p.data, p.grad)), 0.85, 0.85)
        scores = torch.cat([scores_of(name, ours) for name in matrices])
        theirs = method._tuner.rankallocator
        if step < schedule.final:
            assert theirs.budget_schedule(step)[0] == schedule.at(step)
        with method.step(step, True):
            pass
        for name in parameters if step < schedule.final else ():
            torch.testing.assert_close(theirs.exp_avg_ipt[name], ours[name][0])
            torch.testing.assert_close(theirs.exp_avg_unc[name], ours[name][1])
        if schedule.updates_mask(step):
            renewed += 1
            pattern = method._tuner.peft_config["default"].rank_pattern
            mask = top_mask(scores, schedule.at(step)).view(-1, r)
            np.testing.assert_array_equal([pattern[name] for name in matrices], mask.numpy())
    assert renewed == 5  # steps 6, 9, 12, 15 and the final 16
    assert sum(map(sum, pattern.values())) == 12 * target


def scores_of(name, statistics):
    """Scores (r,) of one matrix with our function, from the statistics of its three factors."""
    entries = {key: torch.mul(*statistics[name.replace("lora_E", f"lora_{key}")]) for key in "AEB"}
    parts = {"u": entries["A"][None], "lam": entries["E"].T, "U": entries["B"].T[None]}  # (1, r, d), (1, r), (1, r, o)
    return singular_value_scores(parts)[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget.target_rank=1.5", "AdaLoRA takes whole numbers"),
        ("budget.schedule=printed", "needs the released one: budget.schedule=released"),
        ("budget.beta1=0", "needs both between 0 and 1"),
    ],
)
def test_what_peft_cannot_do_is_refused_before_any_model_loads(override, message, configure):
    with pytest.raises(UserError, match=message):
        configure("method=adalora", "method.impl=peft", override)
