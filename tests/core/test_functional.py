"""The pure functions against the naive oracle: ΔW, the regularisers, importance, scores and the mask."""

import pytest
import torch
from helpers import oracle
from helpers.factors import OUT, SHAPES, D, N, gradients, random_factors, separate

from lora2.core.functional import (
    Factors,
    cross_cosines,
    delta_weight,
    low_rank,
    singular_value_scores,
    top_mask,
    update_importance,
)


@pytest.mark.parametrize(("k", "r"), SHAPES)
def test_delta_weight_is_the_oracles_in_value_and_gradient(k, r):
    f = random_factors(k, r)
    ours = delta_weight(f, 16 / r)
    naive = torch.stack([oracle.delta_weight(m, alpha=16.0) for m in separate(f)])
    torch.testing.assert_close(ours, naive, rtol=1e-12, atol=1e-12)
    probe = torch.randn_like(naive)
    for mine, theirs in zip(gradients((ours * probe).sum(), f), gradients((naive * probe).sum(), f), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("k", "r"), SHAPES)
def test_delta_weight_in_float32(k, r):
    f = random_factors(k, r, dtype=torch.float32)
    naive = torch.stack([oracle.delta_weight(m, alpha=8.0) for m in separate(f)])
    assert delta_weight(f, 8 / r).dtype == torch.float32
    torch.testing.assert_close(
        delta_weight(f, 8 / r).double(), naive, rtol=1e-5, atol=1e-5 * float(naive.detach().abs().max())
    )


@pytest.mark.parametrize(("k", "r"), SHAPES)
def test_the_rank_of_delta_weight_is_at_most_k_and_at_most_the_kept_values(k, r):
    f = random_factors(k, r)
    assert int(torch.linalg.matrix_rank(delta_weight(f, 1.0)).max()) == min(k, r, D, OUT)
    with torch.no_grad():
        f.lam[:, 2:] = 0
    assert int(torch.linalg.matrix_rank(delta_weight(f, 1.0)).max()) == min(k, 2)


def test_the_folded_pair_has_width_k():
    a, b = low_rank(random_factors(2, 7), 0.5)
    assert a.shape == (N, 2, D)
    assert b.shape == (N, 2, OUT)


@pytest.mark.parametrize(("k", "r"), SHAPES)
def test_cross_cosines_are_those_of_the_rows_one_by_one(k, r):
    f = random_factors(k, r)
    f = f._replace(V=torch.randn(N, k, D, dtype=torch.float64))
    ours = cross_cosines(f).detach()
    for n in range(N):
        p, q = (f.u[n] @ f.v[n]).detach(), (f.U[n] @ f.V[n]).detach()
        for i in range(r):
            for j in range(r):
                assert float(ours[n, i, j]) == pytest.approx(
                    float(p[i] @ q[j] / (p[i].norm() * q[j].norm())), abs=1e-12
                )


def test_importance_follows_the_oracle_over_steps():
    smoothed, uncertainty = torch.zeros(2, 3), torch.zeros(2, 3)
    naive = oracle.Importance(6, 0.85, 0.7)
    for step in range(6):
        weight = torch.randn(2, 3, generator=torch.Generator().manual_seed(step))
        grad = torch.randn(2, 3, generator=torch.Generator().manual_seed(100 + step))
        update_importance([smoothed], [uncertainty], [weight], [grad], 0.85, 0.7)
        naive.update(weight.double(), grad.double())
        torch.testing.assert_close(
            smoothed.double().flatten(), torch.tensor(naive.smoothed, dtype=torch.float64), rtol=1e-5, atol=1e-8
        )
        torch.testing.assert_close(
            uncertainty.double().flatten(), torch.tensor(naive.uncertainty, dtype=torch.float64), rtol=1e-5, atol=1e-8
        )


def test_importance_by_hand():
    smoothed, uncertainty = torch.tensor([1.0]), torch.tensor([0.5])
    update_importance([smoothed], [uncertainty], [torch.tensor([-2.0])], [torch.tensor([3.0])], 0.9, 0.8)
    assert float(smoothed) == pytest.approx(0.9 * 1 + 0.1 * 6)  # I = |-2 · 3|
    assert float(uncertainty) == pytest.approx(0.8 * 0.5 + 0.2 * (6 - 1.5))  # with the new Ī


def test_importance_stays_float32_for_bf16_weights():
    smoothed, uncertainty = torch.zeros(4), torch.zeros(4)
    ones = torch.ones(4, dtype=torch.bfloat16)
    update_importance([smoothed], [uncertainty], [ones], [ones], 0.85, 0.85)
    assert smoothed.dtype == uncertainty.dtype == torch.float32
    torch.testing.assert_close(smoothed, torch.full((4,), 0.15))


@pytest.mark.parametrize("full", [False, True], ids=["eq9", "eq8"])
@pytest.mark.parametrize(("k", "r"), SHAPES)
def test_scores_are_the_oracles(k, r, full):
    f = Factors(*(factor.detach().abs() for factor in random_factors(k, r)))
    wanted = ("u", "v", "lam", "U", "V") if full else ("u", "lam", "U")
    ours = singular_value_scores({name: getattr(f, name) for name in wanted})
    naive = [
        oracle.matrix_scores({name: t.flatten().tolist() for name, t in m.named().items()}, k, r, full=full)
        for m in separate(f)
    ]
    torch.testing.assert_close(ours, torch.tensor(naive, dtype=torch.float64), rtol=1e-12, atol=0)


def test_the_full_score_adds_one_constant_to_a_matrix():
    f = Factors(*(factor.detach().abs() for factor in random_factors(3, 5)))
    reduced = singular_value_scores({name: getattr(f, name) for name in ("u", "lam", "U")})
    full = singular_value_scores(f._asdict())
    for n, row in enumerate(full - reduced):
        torch.testing.assert_close(row, torch.full((5,), float((f.v[n].sum() + f.V[n].sum()) / 3), dtype=torch.float64))


@pytest.mark.parametrize("budget", [0, 1, 5, 11, 12])
def test_the_mask_is_the_oracles_top_b(budget):
    scores = torch.tensor([0.5, 2.0, 2.0, 0.0, -1.0, 2.0, 7.0, 0.5, 0.5, 3.0, 0.0, 2.0])
    mask = top_mask(scores, budget)
    assert mask.tolist() == oracle.top(scores.tolist(), budget)
    assert int(mask.sum()) == budget


@pytest.mark.parametrize("size", [3, 1000])
def test_equal_scores_keep_the_first(size):
    assert top_mask(torch.ones(size), size // 2).tolist() == [True] * (size // 2) + [False] * (size - size // 2)
