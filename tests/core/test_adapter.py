"""What a user of the library asks of an adapter: its defaults, its optimizer's groups, its penalty, its size."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.toys import adapted, encoder
from peft import LoraConfig, get_peft_model

from lora2 import LoRA2Config, RankAllocator, inject
from lora2.common.errors import UserError


def test_defaults_are_an_orthonormal_start_twenty_times_the_rate_and_a_scale_of_two():
    _, adapter = adapted("bert", random_factors=False, r=4)
    assert {stack.scale for stack in adapter.factor_stacks()} == {2.0}
    for stack in adapter.factor_stacks():
        gram = stack.v @ stack.v.mT  # (n, k, k)
        torch.testing.assert_close(gram, torch.eye(8).expand_as(gram))
    others, singular = adapter.param_groups(lr=0.5)
    assert (others["lr"], singular["lr"]) == (0.5, 10.0)


def test_the_papers_settings_are_those_of_its_released_scripts():
    assert LoRA2Config.paper(k=1) == LoRA2Config(k=1, r=8, alpha=16.0, init="paper", lam_lr_scale=1.0)
    _, adapter = adapted("bert", random_factors=False, init="paper", k=8)
    assert torch.cat([stack.v.detach().flatten() for stack in adapter.factor_stacks()]).std() == pytest.approx(
        0.02, rel=0.05
    )


def test_groups_hold_all_that_is_trained_once():
    model = encoder("bert")
    adapter = inject(model, LoRA2Config(k=2))
    groups = adapter.param_groups(lr=1.0)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert {id(p) for p in groups[1]["params"]} == {id(stack.lam) for stack in adapter.factor_stacks()}


def test_penalty_is_gamma_times_the_sum_of_the_terms():
    _, adapter = adapted("bert")
    terms = adapter.penalties(frozenset({"uv", "UV", "PQ"}), "squared")
    torch.testing.assert_close(adapter.penalty(0.3), 0.3 * (terms["uv"] + terms["UV"] + terms["PQ"]))
    torch.testing.assert_close(
        adapter.penalty(2.0, frozenset({"PQ"}), "norm"), 2 * adapter.penalties(frozenset({"PQ"}), "norm")["PQ"]
    )


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_the_size_is_told_in_pefts_own_line(capsys: pytest.CaptureFixture[str]):
    theirs = get_peft_model(encoder("bert"), LoraConfig(r=2, target_modules=["query"]))
    theirs.print_trainable_parameters()
    model = encoder("bert")
    adapter = inject(model, LoRA2Config(k=2, r=2, targets=("query",)), train_head=False)
    adapter.print_trainable_parameters()
    peft_line, our_line = capsys.readouterr().out.splitlines()
    extra = 2 * (2 * 2 * 2 + 2)  # two layers of two (r, k) factors and r singular values more than LoRA
    trained, total = (sum(p.numel() for p in model.parameters() if p.requires_grad or every) for every in (False, True))
    assert trained == theirs.get_nb_trainable_parameters()[0] + extra
    expected = peft_line.replace(f"{trained - extra:,d}", f"{trained:,d}").replace(f"{total - extra:,d}", f"{total:,d}")
    assert our_line == expected.split("trainable%")[0] + f"trainable%: {100 * trained / total:.4f}"


@pytest.mark.parametrize("name", ["k", "r", "alpha", "lam_lr_scale"])
def test_sizes_and_scales_above_zero_alone_are_taken(name: str):
    with pytest.raises(UserError, match=rf"LoRA2Config\.{name}: got 0; it must be above 0"):
        replace(LoRA2Config(), **{name: 0})


def test_phases_that_are_not_given_follow_the_authors_script_for_mrpc():
    _, adapter = adapted("bert")
    schedule = RankAllocator(adapter, total_steps=600, target_rank=4).schedule
    assert (schedule.t_i, schedule.t_f, schedule.initial, schedule.target) == (100, 300, 12 * 8, 12 * 4)
    with pytest.raises(UserError, match="target_rank"):
        RankAllocator(adapter, total_steps=600, target_rank=9)


def test_a_file_is_no_folder_for_an_adapter(tmp_path: Path):
    _, adapter = adapted("bert")
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match="is a file; name a folder"):
        adapter.save_peft(tmp_path / "a")
