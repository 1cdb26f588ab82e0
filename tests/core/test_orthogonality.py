"""The regularisers of eq. 5 against the naive oracle, in values and gradients."""

import pytest
import torch
from helpers import oracle
from helpers.factors import SHAPES, D, N, gradients, random_factors, separate

from lora2.core.functional import Factors
from lora2.core.orthogonality import distances, grams, penalties

SUBSETS = [("uv",), ("UV",), ("PQ",), ("uv", "UV"), ("uv", "UV", "PQ")]  # the paper's Table 3


@pytest.mark.parametrize("form", ["squared", "norm"])
@pytest.mark.parametrize("terms", SUBSETS, ids="+".join)
@pytest.mark.parametrize(("k", "r"), SHAPES)
def test_penalties_are_the_oracles_in_value_and_gradient(k, r, terms, form):
    f = random_factors(k, r)
    ours = penalties([f], frozenset(terms), form)
    naive = oracle.penalties(separate(f), terms, form)
    share = 1.0 if form == "squared" else 2 * N * len(terms)  # the average is taken one level up, in Adapter.penalties
    assert set(ours) == set(terms)
    for term in terms:
        torch.testing.assert_close(ours[term], naive[term] * share, rtol=1e-11, atol=0)
        for mine, theirs in zip(gradients(ours[term], f), gradients(naive[term] * share, f), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("k", "r"), SHAPES)
def test_the_other_gram_of_a_matrix_has_the_same_squared_gradient(k, r):
    """The paper's shapes leave open which Gram is meant: the squared form differs by the constant |rows - columns|."""
    f = random_factors(k, r)
    ours = penalties([f], frozenset({"uv"}), "squared")["uv"]
    other = torch.stack([oracle.squared_distance(oracle.gram(m.u)) for m in separate(f)]).sum()
    other = other + torch.stack([oracle.squared_distance(oracle.gram(m.v.T)) for m in separate(f)]).sum()
    assert float((other - ours).detach()) == pytest.approx(N * ((r - k) + (D - k)), abs=1e-8)
    for mine, theirs in zip(gradients(ours, f), gradients(other, f), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-9)


def test_penalties_vanish_for_orthonormal_factors():
    f = Factors(
        *(torch.eye(4, dtype=torch.float64).expand(N, 4, 4) for _ in range(2)),
        torch.zeros(N, 4),
        *2 * (torch.eye(4, dtype=torch.float64).expand(N, 4, 4),),
    )
    for form in ("squared", "norm"):
        assert {float(value) for value in penalties([f], frozenset({"uv", "UV", "PQ"}), form).values()} == {0.0}


def test_the_norm_has_a_finite_gradient_at_the_identity():
    f = Factors(
        *(torch.eye(3).repeat(N, 1, 1).requires_grad_() for _ in range(2)),
        torch.zeros(N, 3),
        *(torch.eye(3).repeat(N, 1, 1).requires_grad_() for _ in range(2)),
    )
    torch.stack(list(penalties([f], frozenset({"uv", "PQ"}), "norm").values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in (f.u, f.v, f.U, f.V) if p.grad is not None)


@pytest.mark.parametrize("form", ["squared", "norm"])
def test_several_stacks_are_regularised_as_each_by_itself(form):
    """The stacks of an adapter have one r and k, and shapes of their own."""
    stacks = [random_factors(3, 5, seed=0), random_factors(3, 5, seed=1, d=9, o=4, n=2)]
    terms = frozenset(SUBSETS[-1])
    together = penalties(stacks, terms, form)
    alone = [penalties([f], terms, form) for f in stacks]
    for term in terms:
        torch.testing.assert_close(together[term], alone[0][term] + alone[1][term], rtol=1e-12, atol=0)
        for f, one in zip(stacks, alone, strict=True):
            for mine, theirs in zip(gradients(together[term], f), gradients(one[term], f), strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_a_gram_is_right_where_what_follows_is_not_symmetric():
    x, y = torch.randn(2, 3, 5, dtype=torch.float64), torch.randn(1, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, y: grams([x, y]), (x.requires_grad_(), y.requires_grad_()))


@pytest.mark.parametrize("form", ["squared", "norm"])
def test_distances_are_per_matrix(form):
    gram = torch.stack([torch.eye(3), 3 * torch.eye(3)])
    assert distances(gram, form).tolist() == pytest.approx([0.0, 12.0 if form == "squared" else 12**0.5])
