"""SoRA: the layer, the proximal step against numpy, and what is left when gates have closed."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from lora2.models.methods.build import build
from lora2.models.methods.sora import SoRALinear, close_gates

numbers = st.floats(-2, 2, width=32)


@given(gate=arrays(np.float32, 8, elements=numbers), threshold=st.floats(0, 1, width=32))
def test_the_proximal_step_is_the_soft_threshold(gate, threshold):
    parameter = nn.Parameter(torch.from_numpy(gate.copy()))
    close_gates([parameter], threshold)
    oracle = np.sign(gate) * np.maximum(np.abs(gate) - np.float32(threshold), 0)
    np.testing.assert_allclose(parameter.detach().numpy(), oracle, rtol=0, atol=1e-7)


def test_the_layer_adds_a_gated_low_rank_product():
    torch.manual_seed(0)
    layer = SoRALinear(nn.Linear(5, 7), 3, 2.0)
    nn.init.normal_(layer.B)
    delta = 2.0 * layer.B @ torch.diag(layer.gate) @ layer.A
    x = torch.randn(4, 5)
    torch.testing.assert_close(layer(x), x @ (layer.base.weight + delta).T + layer.base.bias)


def test_closed_gates_are_not_counted_and_not_reported_as_rank(configure, tiny, train):
    method = build(tiny, configure("method=sora", "rank.r=3", "method.sparse_lambda_2=0.7"), 2)
    train(tiny, method, 2)
    counts = method.count_parameters()
    gates = {name: p for name, p in tiny.named_parameters() if name.endswith(".gate")}
    assert sum(counts.ranks.values()) == sum(int(gate.count_nonzero()) for gate in gates.values()) < 3 * 12
    assert counts.active_adapter < counts.adapter
    attention = [matrix for matrix in counts.ranks if "ffn" not in matrix]
    kept_attention = sum(counts.ranks[matrix] for matrix in attention)
    kept_ffn = sum(counts.ranks.values()) - kept_attention
    assert counts.active_adapter == kept_attention * (32 + 32 + 1) + kept_ffn * (32 + 64 + 1)


def test_a_skipped_optimizer_step_skips_the_proximal_one(configure, tiny):
    method = build(tiny, configure("method=sora", "rank.r=3"), 2)
    before = [p.clone() for p in method.groups[1].parameters.values()]
    with method.step(0, False):
        pass
    assert all(torch.equal(p, old) for p, old in zip(method.groups[1].parameters.values(), before, strict=True))


def test_the_penalty_is_lambda_times_the_mean_gate(configure, tiny):
    method = build(tiny, configure("method=sora", "rank.r=3", "method.sparse_lambda=10"), 2)
    gates = np.concatenate([p.detach().numpy() for p in method.groups[1].parameters.values()])
    np.testing.assert_allclose(method.penalties()["gates"].item(), 10 * np.abs(gates).mean(), rtol=1e-6)


def test_lambda_zero_has_no_penalty(configure, tiny):
    assert build(tiny, configure("method=sora", "method.sparse_lambda=0"), 2).penalties() == {}


def test_gates_have_their_own_learning_rate(configure, tiny):
    method = build(tiny, configure("method=sora", "method.gate_lr_scale=3"), 2)
    assert [group.lr_scale for group in method.groups] == [1.0, 3.0, 1.0]
    assert all(name.endswith(".gate") for name in method.groups[1].parameters)
