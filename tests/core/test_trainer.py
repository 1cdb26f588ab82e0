"""LoRA² in transformers' Trainer: a step's loss and gradient whatever its micro-batches; which state the check sees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.toys import encoder
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

import lora2
from lora2.common.errors import UserError
from lora2.core.allocator import RankAllocator
from lora2.core.hf import LoRA2Callback, LoRA2Trainer
from lora2.core.inject import LoRA2Config

ROWS = 32
SPLITS = [(16, 2), (8, 4), (12, 3), (5, 7)]  # rows and parts; the last part of (12, 3) has 8 rows, of (5, 7) 2
QUIET = {"report_to": "none", "use_cpu": True, "disable_tqdm": True}


class Rows(Dataset[dict[str, Tensor]]):
    """Fixed sequences with what a model of the kind is to say about them."""

    def __init__(self, kind: str) -> None:
        self.ids = torch.randint(4, 50, (ROWS, 6), generator=torch.Generator().manual_seed(3))
        self.kind = kind

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        ids = self.ids[i]
        if self.kind == "causal":  # rows count differently: the first i tokens are not to be predicted
            return {"input_ids": ids, "labels": ids.where(torch.arange(6) > i % 5, -100)}
        if self.kind == "regression":
            return {"input_ids": ids, "labels": ids[0].double() / 50}
        return {"input_ids": ids, "labels": ids[0] % 2}


class WithoutKwargs(nn.Module):
    """A classifier that computes its loss and takes nothing more, so that the Trainer counts no items."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = encoder("bert")
        self.config, self.classifier = self.inner.config, self.inner.classifier

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.inner(input_ids=input_ids).logits
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def causal() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes))


def regressor() -> nn.Module:
    model = encoder("roberta")
    model.config.problem_type, model.config.num_labels, model.num_labels = "regression", 1, 1
    model.classifier.out_proj = nn.Linear(16, 1)
    return model


def mean_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
    return F.cross_entropy(outputs.logits, labels)


def summed_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
    return F.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch


KINDS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], dict[str, Any]]] = {
    # model, arguments of the trainer, TrainingArguments
    "classifier": (lambda: encoder("bert"), {}, {}),
    "deberta": (lambda: encoder("deberta-v2"), {}, {}),
    "regression": (regressor, {}, {}),
    "causal": (causal, {}, {}),
    "without kwargs": (WithoutKwargs, {}, {}),
    "own mean": (lambda: encoder("bert"), {"compute_loss_func": mean_loss}, {}),
    "own sum": (lambda: encoder("bert"), {"compute_loss_func": summed_loss}, {}),
    "label smoothing": (lambda: encoder("bert"), {}, {"label_smoothing_factor": 0.1}),
}


class Gradients(TrainerCallback):
    """The gradients that the optimizer is given."""

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        named = kwargs["model"].named_parameters()
        self.found = {name: p.grad.clone() for name, p in named if p.requires_grad and p.grad is not None}


def one_step(folder: Path, kind: str, rows: int, parts: int, gamma: float = 0.1) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a step over all 32 rows, in float64."""
    make, options, settings = KINDS[kind]
    torch.manual_seed(1)
    model = make()
    targets = ("q_proj", "up_proj") if kind == "causal" else ("query", "ffn_w2")
    adapter = lora2.inject(model, LoRA2Config(k=2, r=4, targets=targets))
    torch.manual_seed(2)
    for stack in adapter.factor_stacks():
        nn.init.normal_(stack.lam)
    seen = Gradients()
    made = LoRA2Trainer(
        adapter=adapter,
        gamma=gamma,
        model=model.double(),
        args=TrainingArguments(
            str(folder),
            max_steps=1,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=parts,
            max_grad_norm=0.0,
            save_strategy="no",
            logging_steps=1,
            **QUIET,
            **settings,
        ),
        train_dataset=Rows(kind),
        callbacks=[seen],
        **options,
    )
    made.train()
    return made.state.log_history[0]["loss"], seen.found


@pytest.mark.parametrize(("rows", "parts"), SPLITS)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_those_of_the_whole_batch(kind: str, rows: int, parts: int, tmp_path: Path):
    whole, cut = one_step(tmp_path, kind, ROWS, 1), one_step(tmp_path, kind, rows, parts)
    assert cut[0] == pytest.approx(whole[0], rel=1e-3)  # the log has 4 digits
    assert whole[1].keys() == cut[1].keys() != set()
    for name, gradient in whole[1].items():
        torch.testing.assert_close(cut[1][name], gradient, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("kind", ["classifier", "causal"])
def test_a_whole_batch_has_the_loss_of_transformers_own_trainer(kind: str, tmp_path: Path, monkeypatch):
    ours = one_step(tmp_path, kind, ROWS, 1, gamma=0.0)
    monkeypatch.setattr(LoRA2Trainer, "compute_loss", Trainer.compute_loss)
    theirs = one_step(tmp_path, kind, ROWS, 1, gamma=0.0)
    assert ours[0] == theirs[0]
    for name, gradient in theirs[1].items():
        torch.testing.assert_close(ours[1][name], gradient, msg=name)


def test_several_gpus_in_one_process_are_refused(tmp_path: Path):
    args = TrainingArguments(str(tmp_path), **QUIET)
    args._n_gpu = 2
    model = encoder("bert")
    adapter = lora2.inject(model, LoRA2Config(k=1, r=1))
    with pytest.raises(UserError, match=r"args\.n_gpu: got 2; .*torchrun"):
        LoRA2Trainer(adapter=adapter, gamma=0.0, model=model, args=args)


# ------------------------------------------------------------------------------------------- the end of training


def best_first(folder: Path) -> tuple[LoRA2Trainer, LoRA2Callback]:
    """4 evaluations of which the first is the best, whose weights are loaded at the end."""
    model = encoder("bert")
    adapter = lora2.inject(model, LoRA2Config(k=2, r=4))
    callback = LoRA2Callback(lambda total: RankAllocator(adapter, total, target_rank=1, t_i=2, t_f=2))
    scores = iter([0.9, 0.1, 0.1, 0.1])
    made = LoRA2Trainer(
        adapter=adapter,
        gamma=0.1,
        model=model,
        args=TrainingArguments(
            str(folder),
            max_steps=8,
            per_device_train_batch_size=8,
            learning_rate=1e-2,
            eval_strategy="steps",
            eval_steps=2,
            save_steps=2,
            load_best_model_at_end=True,
            metric_for_best_model="score",
            **QUIET,
        ),
        train_dataset=Rows("classifier"),
        eval_dataset=Rows("classifier"),
        compute_metrics=lambda _: {"score": next(scores)},
        callbacks=[callback],
    )
    return made, callback


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_best_weights_from_before_the_final_ranks_may_be_loaded_and_are_exported_exactly(tmp_path: Path):
    made, callback = best_first(tmp_path / "run")
    made.train()
    assert made.state.best_global_step == 2
    assert int(callback.allocator.keep.sum()) == 12
    adapter = made.model.get_submodule("lora2")
    assert sum(adapter.ranks().values()) > 12  # those of step 2
    model, ids = made.model.eval(), Rows("classifier").ids
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        with adapter.merged():
            torch.testing.assert_close(model(input_ids=ids).logits, plain, rtol=1e-5, atol=1e-6)
        adapter.save_peft(tmp_path / "lora")
        exported = PeftModel.from_pretrained(encoder("bert"), str(tmp_path / "lora")).eval()
        torch.testing.assert_close(exported(input_ids=ids).logits, plain, rtol=1e-5, atol=1e-6)


def test_a_budget_that_was_missed_is_told_when_the_last_step_is_taken(tmp_path: Path, monkeypatch):
    made, callback = best_first(tmp_path)
    monkeypatch.setattr(LoRA2Callback, "on_optimizer_step", lambda *_, **__: None)  # nothing is masked
    with pytest.raises(RuntimeError, match="final budget missed: 12 wanted"):
        made.train()
    assert made.state.global_step == 8
    assert callback.allocator.schedule.total == 8
