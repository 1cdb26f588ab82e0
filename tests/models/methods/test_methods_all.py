"""What holds for every method: it starts as the backbone, changes only what it owns, and counts what it trains."""

import pytest
import torch

from lora2.models.methods.build import build

ADAPTERS = {
    "lora2": ["method=lora2", "rank=k1"],
    "lora": ["method=lora", "rank.r=2"],
    "adalora": ["method=adalora", "rank.r=4", "budget.target_rank=2"],
    "adalora_peft": ["method=adalora", "method.impl=peft", "rank.r=4", "budget.target_rank=2"],
    "sora": ["method=sora", "rank.r=2"],
    "houlsby": ["method=houlsby", "method.bottleneck=4"],
    "pfeiffer": ["method=pfeiffer", "method.bottleneck=4"],
}
PHASES = ("budget.t_i=0", "budget.t_f=1", "budget.interval=1")  # of a run of three steps
SUBSETS = {name: [f"method={name}"] for name in ("full", "bitfit", "head")}


@pytest.mark.parametrize("overrides", ADAPTERS.values(), ids=ADAPTERS)
def test_the_start_is_the_backbone(overrides, configure, tiny, tokens):
    before = tiny(tokens).logits
    build(tiny, configure(*overrides, *PHASES), 3)
    torch.testing.assert_close(tiny(tokens).logits, before, rtol=0, atol=0)


@pytest.mark.parametrize("overrides", ADAPTERS.values(), ids=ADAPTERS)
def test_frozen_weights_are_bit_equal_after_training(overrides, configure, tiny, train):
    method = build(tiny, configure(*overrides, *PHASES), 3)
    frozen = {name: p.clone() for name, p in tiny.named_parameters() if not p.requires_grad}
    trained = {name: p.clone() for g in method.groups for name, p in g.parameters.items()}
    train(tiny, method, 3)
    assert frozen
    assert all(torch.equal(p, frozen[name]) for name, p in tiny.named_parameters() if name in frozen)
    changed = [name for g in method.groups for name, p in g.parameters.items() if not torch.equal(p, trained[name])]
    assert len(changed) == len(trained)


@pytest.mark.parametrize("overrides", [*ADAPTERS.values(), *SUBSETS.values()], ids=[*ADAPTERS, *SUBSETS])
def test_the_groups_hold_every_trained_parameter_once(overrides, configure, tiny):
    method = build(tiny, configure(*overrides, *PHASES), 3)
    grouped = [id(p) for group in method.groups for p in group.parameters.values()]
    assert sorted(grouped) == sorted(id(p) for p in tiny.parameters() if p.requires_grad)


@pytest.mark.parametrize("overrides", [*ADAPTERS.values(), *SUBSETS.values()], ids=[*ADAPTERS, *SUBSETS])
def test_adapter_and_head_add_up_to_what_is_trained(overrides, configure, tiny, train):
    size = sum(p.numel() for p in tiny.parameters())
    method = build(tiny, configure(*overrides, *PHASES), 3)
    train(tiny, method, 3)
    counts = method.count_parameters()
    assert counts.head == 32 * 32 + 32 + 2 * 32 + 2  # pooler and classifier of the tiny model
    assert counts.backbone == size - counts.head
    assert counts.adapter + counts.head == sum(p.numel() for p in tiny.parameters() if p.requires_grad)
    assert counts.active_adapter <= counts.adapter


@pytest.mark.parametrize("overrides", ADAPTERS.values(), ids=ADAPTERS)
def test_merged_computes_the_same_and_leaves_no_trace(overrides, configure, tiny, train, tokens):
    method = build(tiny, configure(*overrides, *PHASES), 3)
    train(tiny, method, 3)
    before = {name: p.clone() for name, p in tiny.named_parameters()}
    with torch.no_grad():
        plain = tiny(tokens).logits
        with method.merged():
            torch.testing.assert_close(tiny(tokens).logits, plain)
    assert all(torch.equal(p, before[name]) for name, p in tiny.named_parameters())


@pytest.mark.parametrize("name", ["lora2", "lora", "adalora", "adalora_peft", "sora"])
def test_ranks_are_named_by_layer_and_matrix(name, configure, tiny, train):
    method = build(tiny, configure(*ADAPTERS[name], "method.targets=qv", *PHASES), 3)
    train(tiny, method, 3)
    kept = method.count_parameters().ranks
    followed = method.monitor()
    if name != "lora":  # its ranks never change
        assert {f"rank/{matrix}": rank for matrix, rank in kept.items()}.items() <= followed.items()
        assert followed["budget"] == sum(kept.values())
    assert list(kept) == ["layer.0.query", "layer.0.value", "layer.1.query", "layer.1.value"]
