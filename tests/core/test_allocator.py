"""The allocator: exact budgets, the fixed final pattern, deterministic ties, refusals and a state that round-trips."""

import pytest
import torch
from helpers import oracle
from helpers.host_tensors import NoHostUse
from helpers.toys import adapted, matrix, randomise_factors, tokens
from torch import Tensor

from lora2.core.adapter import Adapter
from lora2.core.allocator import SCORED_FACTORS, RankAllocator
from lora2.core.budget import BudgetSchedule

TOTAL, T_I, T_F, R, TARGET = 14, 2, 4, 5, 17


def schedule(layers: int, *, interval: int = 1, total: int = TOTAL) -> BudgetSchedule:
    return BudgetSchedule(total, layers * R, TARGET, T_I, T_F, interval)


def make(score: str = "reduced", *, interval: int = 1, kind: str = "bert") -> tuple[Adapter, RankAllocator]:
    _, adapter = adapted(kind, k=3, r=R)
    return adapter, allocator_of(adapter, score, interval=interval)


def allocator_of(adapter: Adapter, score: str = "reduced", *, interval: int = 1) -> RankAllocator:
    mean = TARGET / len(adapter.layers)
    return RankAllocator(adapter, TOTAL, mean, t_i=T_I, t_f=T_F, interval=interval, score=score)


def give_gradients(adapter: Adapter, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in adapter.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


@torch.no_grad()
def move(adapter: Adapter, step: int) -> None:
    """What an optimizer might do; pruned values may come back."""
    generator = torch.Generator().manual_seed(1000 + step)
    for p in adapter.parameters():
        p.add_(torch.randn(p.shape, generator=generator), alpha=0.1)


def live(adapter: Adapter) -> Tensor:
    """Λ of every matrix in the global order, (matrices, r)."""
    return torch.stack([layer.stack.lam.detach()[layer.index] for layer in adapter.layers.values()])


def expected_scores(score: str, statistics: dict[str, oracle.Importance], lam: Tensor) -> list[float]:
    """What the score is of each singular value of one matrix."""
    if score == "magnitude":
        return oracle.magnitudes(lam)
    parts = {name: own.smoothed if score == "sensitivity" else own.scores() for name, own in statistics.items()}
    return oracle.matrix_scores(parts, 3, R, full=score == "full")


@pytest.mark.parametrize("kind", ["bert", "deberta-v2"])
@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize("score", SCORED_FACTORS)
def test_masks_and_scores_follow_the_oracle_over_a_run(score, interval, kind):
    adapter, allocator = make(score, interval=interval, kind=kind)
    layers = list(adapter.layers.values())
    statistics = [
        {name: oracle.Importance(t.numel(), 0.85, 0.85) for name, t in matrix(layer).named().items()}
        for layer in layers
    ]
    keep = [True] * (len(layers) * R)
    for step in range(TOTAL):
        give_gradients(adapter, step)
        if step < TOTAL - T_F:
            for layer, own in zip(layers, statistics, strict=True):
                for name, weight in matrix(layer).named().items():
                    own[name].update(weight, getattr(layer.stack, name).grad[layer.index].double())
        allocator.observe(step)
        move(adapter, step)
        before = live(adapter)
        budget = allocator.mask(step)
        assert budget == oracle.budget(step, TOTAL, len(keep), TARGET, T_I, T_F, "released")
        renewed = step == TOTAL - T_F or (T_I < step < TOTAL - T_F and step % interval == 0)
        if renewed:
            scores = [
                value for own, lam in zip(statistics, before, strict=True) for value in expected_scores(score, own, lam)
            ]
            scored = allocator.scores() if score != "magnitude" else before.abs().flatten()  # which the mask changed
            torch.testing.assert_close(scored.double(), torch.tensor(scores, dtype=torch.float64), rtol=1e-4, atol=1e-9)
            keep = oracle.top(scores, budget)
        assert allocator.keep.tolist() == keep
        masked = before * torch.tensor(keep).view(-1, R) if renewed or step > TOTAL - T_F else before
        assert torch.equal(live(adapter), masked)


@pytest.mark.parametrize("interval", [1, 4])
def test_the_budget_is_exact_at_every_step(interval):
    adapter, allocator = make(interval=interval)
    promised = schedule(len(adapter.layers), interval=interval)
    last = promised.initial
    for step in range(TOTAL):
        give_gradients(adapter, step)
        allocator.observe(step)
        move(adapter, step)
        allocator.mask(step)
        if promised.updates_mask(step):
            last = promised.at(step)
            assert int(live(adapter).count_nonzero()) == last
        assert int(allocator.keep.sum()) == last
        assert sum(allocator.ranks().values()) == last
    assert last == TARGET
    allocator.assert_final_budget()
    assert allocator.ranks() == adapter.ranks()


def test_the_two_scores_agree_within_every_matrix_but_not_over_all():
    full, reduced = (make(score)[1] for score in ("full", "reduced"))
    for allocator in (full, reduced):
        for stack, other in zip(allocator.stacks, full.stacks, strict=True):
            stack.load_state_dict(other.state_dict())
    for step in range(T_I + 6):
        for allocator in (full, reduced):
            for i, stack in enumerate(allocator.stacks):
                for j, p in enumerate(stack.parameters()):
                    p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * step + 10 * i + j))
            allocator.observe(step)
    torch.testing.assert_close(full.scores("reduced"), reduced.scores(), rtol=0, atol=0)
    orders = [scores.view(-1, R).argsort(1, descending=True) for scores in (full.scores(), full.scores("reduced"))]
    assert torch.equal(*orders)  # eq. 8 adds a constant within a matrix
    full.mask(TOTAL - T_F - 1)
    kept = int(full.keep.sum())
    assert kept < len(full.keep)
    mine, theirs = ({*scores.topk(kept).indices.tolist()} for scores in (full.scores(), reduced.scores()))
    assert full.score_agreement() == len(mine & theirs) / kept < 1


def test_nothing_is_pruned_before_the_first_mask():
    adapter, allocator = make()
    for step in range(T_I + 1):
        give_gradients(adapter, step)
        allocator.observe(step)
        before = live(adapter)
        assert allocator.mask(step) == len(adapter.layers) * R
        assert torch.equal(live(adapter), before)


def test_the_final_pattern_is_fixed_and_masked_at_every_step():
    adapter, allocator = make()
    patterns = []
    for step in range(TOTAL):
        give_gradients(adapter, step)
        allocator.observe(step)
        move(adapter, step)
        allocator.mask(step)
        patterns.append((allocator.keep.tolist(), live(adapter).ne(0).flatten().tolist()))
    final = patterns[TOTAL - T_F]
    assert all(pattern == final for pattern in patterns[TOTAL - T_F :])
    assert final[0] == final[1]


def test_importance_rests_in_the_last_phase():
    adapter, allocator = make()
    give_gradients(adapter, 0)
    allocator.observe(TOTAL - T_F - 1)
    before = allocator.scores()
    assert before.any()
    give_gradients(adapter, 1)
    allocator.observe(TOTAL - T_F)
    assert torch.equal(allocator.scores(), before)


def test_a_pruned_value_can_revive_while_the_budget_shrinks():
    adapter, allocator = make()
    give_gradients(adapter, 0)
    allocator.observe(0)
    allocator.mask(T_I + 1 + 5)
    pruned = int((~allocator.keep).nonzero()[0])
    layer = list(adapter.layers.values())[pruned // R]
    assert float(layer.stack.lam.detach()[layer.index, pruned % R]) == 0.0
    for step in range(3):  # it moves again, and matters more than all others
        with torch.no_grad():
            layer.stack.lam[layer.index, pruned % R] = 5.0
        give_gradients(adapter, step)
        layer.stack.lam.grad[layer.index, pruned % R] = 1e3 * (step + 1)
        allocator.observe(step)
    allocator.mask(T_I + 1 + 6)
    assert bool(allocator.keep[pruned])
    assert float(layer.stack.lam.detach()[layer.index, pruned % R]) == 5.0


def test_ties_are_kept_in_the_order_of_layers_then_values():
    adapter, allocator = make()  # no statistics yet: every score is 0
    allocator.mask(TOTAL - T_F)
    assert allocator.keep.tolist() == [True] * TARGET + [False] * (len(adapter.layers) * R - TARGET)
    names = list(adapter.layers)
    kept = allocator.ranks()
    assert [kept[name] for name in names[:5]] == [R, R, R, TARGET - 3 * R, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(bad):
    adapter, allocator = make()
    give_gradients(adapter, 0)
    adapter.factor_stacks()[0].lam.grad[0, 0] = bad
    allocator.observe(0)
    with pytest.raises(FloatingPointError, match=r"1 of \d+ importance scores are not finite"):
        allocator.mask(T_I + 1)
    # on a GPU `mask` only notes it there, and what reads the mask tells of it
    for read in (allocator.ranks, allocator.assert_final_budget):
        with pytest.raises(FloatingPointError, match="not finite"):
            read()


def test_observing_without_gradients_is_refused():
    adapter, allocator = make()
    with pytest.raises(RuntimeError, match="after backward, before zero_grad"):
        allocator.observe(0)
    give_gradients(adapter, 0)
    allocator.observe(0)
    for p in adapter.parameters():
        p.grad = None
    with pytest.raises(RuntimeError, match="importance of u needs its gradient"):
        allocator.observe(1)


@pytest.mark.parametrize(
    ("score", "expected", "parts"),
    [
        ("reduced", {"u", "lam", "U"}, {"smoothed", "uncertainty"}),
        ("full", {"u", "v", "lam", "U", "V"}, {"smoothed", "uncertainty"}),
        ("sensitivity", {"u", "lam", "U"}, {"smoothed"}),
        ("magnitude", set(), set()),
    ],
)
def test_only_what_is_scored_has_statistics(score, expected, parts):
    adapter, allocator = make(score)
    state = [name.split(".") for name in allocator.state_dict() if name != "keep"]
    assert {factor for _, factor, _ in state} == set(SCORED_FACTORS[score]) == expected
    assert {part for *_, part in state} == parts
    assert len(allocator.stacks) == len(adapter.stacks)


def test_the_final_budget_is_asserted():
    adapter, allocator = make()
    with pytest.raises(RuntimeError, match="final budget missed: 17 wanted, mask keeps 60"):
        allocator.assert_final_budget()
    allocator.mask(TOTAL - T_F)
    allocator.assert_final_budget()
    with torch.no_grad():
        adapter.factor_stacks()[-1].lam.fill_(1.0)  # someone changed Λ after the last mask
    with pytest.raises(RuntimeError, match="are not zero"):
        allocator.assert_final_budget()


@pytest.mark.parametrize("score", SCORED_FACTORS)
def test_the_state_round_trips_through_a_new_allocator(score):
    def steps(adapter: Adapter, allocator: RankAllocator, first: int, last: int) -> None:
        for step in range(first, last):
            give_gradients(adapter, step)
            allocator.observe(step)
            move(adapter, step)
            allocator.mask(step)

    whole, reference = make(score)
    steps(whole, reference, 0, TOTAL)
    adapter, allocator = make(score)
    steps(adapter, allocator, 0, 7)
    state = {name: tensor.clone() for name, tensor in allocator.state_dict().items()}
    restored = allocator_of(adapter, score=score)
    assert not torch.equal(restored.keep, allocator.keep)
    restored.load_state_dict(state)
    assert torch.equal(restored.scores(), allocator.scores())
    assert torch.equal(restored.keep, allocator.keep)
    steps(adapter, restored, 7, TOTAL)
    assert torch.equal(restored.keep, reference.keep)
    assert torch.equal(live(adapter), live(whole))


def test_a_state_of_another_shape_is_refused():
    _, allocator = make("full")
    with pytest.raises(KeyError):
        allocator.load_state_dict(make("reduced")[1].state_dict())


def test_masking_real_gradients_of_a_model():
    model, adapter = adapted("deberta-v2", k=3, r=R)
    randomise_factors(adapter, 0.3)
    allocator = allocator_of(adapter)
    for step in range(TOTAL):
        model(**tokens()).logits.square().sum().backward()
        allocator.observe(step)
        allocator.mask(step)
        model.zero_grad()
    allocator.assert_final_budget()
    assert sum(adapter.ranks().values()) == TARGET


def test_masks_tell_which_singular_values_are_kept():
    _, adapter = adapted("bert", k=3, r=R)
    allocator = allocator_of(adapter)
    allocator.keep[1] = allocator.keep[R] = False
    names = list(adapter.layers)
    masks = allocator.masks()
    assert list(masks) == names
    assert masks[names[0]] == "10" + "1" * (R - 2)
    assert masks[names[1]] == "0" + "1" * (R - 1)
    assert {name: mask.count("1") for name, mask in masks.items()} == allocator.ranks()


def test_its_state_lives_where_the_weights_do():
    model, adapter = adapted("bert", k=3, r=R)
    model.to("meta")
    allocator = allocator_of(adapter)
    assert {tensor.device.type for tensor in allocator.state_dict().values()} == {"meta"}


def test_no_step_reads_the_device():
    """A GPU would wait for Python, and Python for it."""
    model, adapter = adapted("bert", k=3, r=R)
    model.to("meta")
    allocator = allocator_of(adapter)
    for parameter in adapter.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with NoHostUse():
        allocator.observe(0)
        assert allocator.mask(T_I + 1) < len(adapter.layers) * R
