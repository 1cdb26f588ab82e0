"""AdaLoRA on the stacks: a naive one, written out here from its paper, agrees; and what runs rely on holds."""

import copy
import math
from dataclasses import dataclass

import pytest
import torch
from helpers import oracle
from helpers.adalora import ALPHA, GAMMA, SETTINGS, T_F, T_I, TARGET, TOTAL, R, look_at_ours, train
from helpers.host_tensors import NoHostUse
from helpers.toys import encoder, tokens
from torch import nn

from lora2.core.functional import above_threshold_mask, top_mask
from lora2.models.methods.adalora import AdaLoRA
from lora2.models.methods.build import build


def make(configure, *more: str, model: nn.Module | None = None) -> AdaLoRA:
    method = build(encoder("bert") if model is None else model, configure(*SETTINGS, *more), TOTAL)
    assert isinstance(method, AdaLoRA)
    return method


# ---------------------------------------------------------------------- a naive one, written from the paper


@dataclass
class Naive:
    """Scores and mask of AdaLoRA, with loops over entries in float64. Shapes: P (r, d), Λ (r,), Q (r, o)."""

    importance: list[dict[str, oracle.Importance]]
    keep: list[bool]

    def scores(self) -> list[float]:
        """S_i = s(λ_i) + (1/d) Σ_j s(P_ij) + (1/o) Σ_j s(Q_ij), AdaLoRA's eq. 7."""
        found = []
        for matrix in self.importance:
            entries = {name: each.scores() for name, each in matrix.items()}
            for i in range(R):
                score = entries["lam"][i]
                for name in ("u", "U"):
                    width = len(entries[name]) // R
                    for j in range(width):
                        score += entries[name][i * width + j] / width
                found.append(score)
        return found


def above(scores: list[float], budget: int) -> list[bool]:
    """Those above the k-th smallest, where k are to go."""
    gone = len(scores) - budget
    threshold = sorted(scores)[gone - 1] if gone else -math.inf
    return [score > threshold for score in scores]


@pytest.mark.parametrize("betas", [(0.85, 0.85), (0.6, 0.9)])
def test_scores_and_masks_follow_the_naive_one(betas, configure):
    method = make(configure, f"budget.beta1={betas[0]}", f"budget.beta2={betas[1]}")
    layers = list(method.adapter.layers.values())
    shapes = [{"u": R * layer.stack.d, "lam": R, "U": R * layer.stack.o} for layer in layers]
    naive = Naive([{name: oracle.Importance(n, *betas) for name, n in x.items()} for x in shapes], [])
    renewed = 0
    for step in range(TOTAL):
        with method.step(step, True):
            change(method, step)  # what an optimizer might do; the gradients stay those of the old weights
        if step < TOTAL - T_F:
            for layer, own in zip(layers, naive.importance, strict=True):
                for name, each in own.items():
                    weight = getattr(layer.stack, name)
                    old = weight.before if name == "lam" else weight  # Λ before it was masked
                    each.update(old.detach()[layer.index].double(), weight.grad[layer.index].double())
        budget = oracle.budget(step, TOTAL, 12 * R, 12 * TARGET, T_I, T_F, "released")
        if step == TOTAL - T_F or T_I < step < TOTAL - T_F:
            renewed += 1
            scores = naive.scores()
            torch.testing.assert_close(method.allocator.scores().tolist(), scores, rtol=1e-4, atol=1e-9)
            naive.keep = above(scores, budget)
            assert sum(naive.keep) == budget
            assert method.allocator.keep.tolist() == naive.keep
        if naive.keep:
            values = torch.stack([layer.stack.lam.detach()[layer.index] for layer in layers]).flatten()
            assert (values != 0).tolist() == naive.keep
    assert renewed == TOTAL - T_F - T_I


@torch.no_grad()
def change(method: AdaLoRA, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in method.adapter.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
        p.add_(torch.randn(p.shape, generator=generator), alpha=0.1)
    for stack in method.adapter.factor_stacks():
        stack.lam.before = stack.lam.clone()  # type: ignore[attr-defined]


def test_the_penalty_is_the_mean_norm_over_all_of_p_and_q(configure):
    method = make(configure)
    distances = []
    for layer in method.adapter.layers.values():
        for factor in (layer.stack.u, layer.stack.U):
            rows = factor.detach()[layer.index].double()
            distances.append(oracle.squared_distance(oracle.gram(rows)).sqrt().item())
    expected = GAMMA * sum(distances) / len(distances)
    assert method.penalties()["PQ"].item() == pytest.approx(expected, rel=1e-5)


def test_a_delta_weight_is_written_out(configure):
    method = make(configure)
    with torch.no_grad():
        for p in method.adapter.parameters():
            p.normal_(generator=torch.Generator().manual_seed(p.numel()))
    for layer in method.adapter.layers.values():
        p, lam, q = (getattr(layer.stack, name).detach()[layer.index].double() for name in ("u", "lam", "U"))
        expected = sum(ALPHA / (R + 1e-5) * lam[i] * torch.outer(q[i], p[i]) for i in range(R))
        torch.testing.assert_close(layer.delta_weight().double(), expected, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------- the threshold


@pytest.mark.parametrize("scores", [[0.0] * 6, [1.0, 1.0, 2.0, 2.0, 3.0, 0.5], [3.0, 1.0, 2.0, 5.0, 4.0, 6.0]])
@pytest.mark.parametrize("budget", [1, 3, 6])
def test_equal_scores_go_together_as_in_pefts_code(scores, budget):
    given = torch.tensor(scores)
    assert above_threshold_mask(given, budget).tolist() == above(scores, budget)
    if budget < len(scores):
        threshold = torch.kthvalue(given, len(scores) - budget)[0].item()
        assert torch.equal(above_threshold_mask(given, budget), ~(given <= threshold))
    if len(set(scores)) == len(scores):
        assert torch.equal(above_threshold_mask(given, budget), top_mask(given, budget))


# ------------------------------------------------------------------------------------------------- what runs rely on


def test_nothing_in_a_step_waits_for_the_device(configure):
    method = make(configure, model=encoder("bert").to("meta"))
    for p in method.adapter.parameters():
        p.grad = torch.zeros_like(p)
    for step in range(TOTAL):
        with NoHostUse(), method.step(step, True):
            pass


def test_an_overflow_at_the_deciding_step_does_not_lose_the_budget(configure):
    model = encoder("bert")
    method = make(configure, model=model)
    inner = method.step
    method.step = lambda step, _: inner(step, step not in (7, TOTAL - T_F))  # type: ignore[method-assign]
    train(model, method, look_at_ours(method))
    assert sum(method.count_parameters().ranks.values()) == TARGET * 12


def test_a_step_that_overflowed_changes_neither_scores_nor_mask(configure):
    method = make(configure)
    for step in range(T_I + 3):
        with method.step(step, True):
            change(method, step)
    before = {name: x.clone() for name, x in method.stateful.state_dict().items()}
    with method.step(T_I + 3, False):
        change(method, 99)
    assert all(torch.equal(x, before[name]) for name, x in method.stateful.state_dict().items())


def test_a_resumed_training_is_the_undisturbed_one_bit_for_bit(configure):
    models = [encoder("bert").eval() for _ in range(3)]
    methods = [make(configure, model=model) for model in models]
    models[1].load_state_dict(copy.deepcopy(models[0].state_dict()))  # the same start
    undisturbed = train(models[0], methods[0], look_at_ours(methods[0]))
    half = train(models[1], methods[1], look_at_ours(methods[1]), range(TOTAL // 2))
    models[2].load_state_dict(models[1].state_dict())
    methods[2].stateful.load_state_dict({name: x.clone() for name, x in methods[1].stateful.state_dict().items()})
    look, steps = look_at_ours(methods[2]), range(TOTAL // 2, TOTAL)
    rest = train(models[2], methods[2], look, steps, half.optimizer)
    assert half.losses + rest.losses == undisturbed.losses
    assert all(torch.equal(x, models[0].state_dict()[name]) for name, x in models[2].state_dict().items())
    assert methods[2].count_parameters() == methods[0].count_parameters()


@pytest.mark.parametrize("overrides", [(f"budget.target_rank={R}",), ("budget=none",)], ids=["all stay", "no budget"])
def test_with_nothing_to_prune_everything_stays(overrides, configure):
    left_out = "budget." if overrides == ("budget=none",) else "budget.target_rank"
    given = [each for each in SETTINGS if not each.startswith(left_out)]
    method = build(encoder("bert"), configure(*given, *overrides), TOTAL)
    for step in range(TOTAL):
        with method.step(step, True):
            change(method, step)
    counts = method.count_parameters()
    assert set(counts.ranks.values()) == {R}
    assert counts.active_adapter == counts.adapter


def test_the_exported_pair_has_the_kept_rank_and_gives_delta_weight(configure):
    model = encoder("bert").eval()
    method = make(configure, model=model)
    train(model, method, look_at_ours(method))
    ranks = method.count_parameters().ranks
    for name, layer in method.adapter.layers.items():
        a, b = layer.lora_weights()
        assert a.shape == (ranks[name], layer.stack.d)
        assert b.shape == (layer.stack.o, ranks[name])
        torch.testing.assert_close(b @ a, layer.delta_weight(), rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        plain = model(**tokens()).logits
        for form in (method.merged(), method.exported()):
            with form:
                torch.testing.assert_close(model(**tokens()).logits, plain, rtol=1e-5, atol=1e-6)


def test_what_is_followed(configure):
    method = make(configure)
    shown = method.monitor()
    assert shown["budget"] == 12 * R
    assert {name for name in shown if name.startswith("monitor/")} == {"monitor/orth_PQ", "monitor/cosine_PQ"}
    assert shown["monitor/orth_PQ"] == pytest.approx(24 * R, rel=0.05)  # every Gram is near 0, so at ‖I‖² = r
