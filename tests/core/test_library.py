"""`import lora2` is light, its names are the real things however the package was imported; the Trainer integration."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import torch
from helpers.toys import encoder
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import lora2
from lora2.common.errors import UserError
from lora2.core.adapter import Adapter
from lora2.core.allocator import RankAllocator
from lora2.core.hf import STATE_FILE, LoRA2Callback, LoRA2Trainer
from lora2.core.inject import LoRA2Config

ROOT = Path(__file__).resolve().parents[2]
R, STEPS = 4, 8


class Rows(Dataset[dict[str, Tensor]]):
    """32 fixed sequences; the label says whether the first token is even."""

    def __init__(self) -> None:
        self.ids = torch.randint(4, 50, (32, 6), generator=torch.Generator().manual_seed(3))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"input_ids": self.ids[i], "labels": self.ids[i, 0] % 2}


def allocator(adapter: Adapter, total: int = STEPS) -> RankAllocator:
    return RankAllocator(adapter, total, target_rank=1, t_i=1, t_f=2)


def trainer(folder: Path, *, gamma: float = 0.1, callback: bool = True, **changes: object) -> LoRA2Trainer:
    """8 steps of 8 rows on a two-layer BERT without dropout."""
    model = encoder("bert")
    adapter = lora2.inject(model, LoRA2Config(k=2, r=R))
    options = {
        "max_steps": STEPS, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "save_strategy": "no",
        "report_to": "none", "use_cpu": True, "disable_tqdm": True, "logging_steps": 1,
    }  # fmt: skip
    return LoRA2Trainer(
        adapter=adapter,
        gamma=gamma,
        model=model,
        args=TrainingArguments(str(folder), **{**options, **changes}),
        train_dataset=Rows(),
        eval_dataset=Rows(),
        callbacks=[LoRA2Callback(lambda total: allocator(adapter, total))] if callback else [],
    )


def adapter_of(made: LoRA2Trainer) -> Adapter:
    found = made.model.get_submodule("lora2")
    assert isinstance(found, Adapter)
    return found


def weights(made: LoRA2Trainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in made.model.named_parameters() if p.requires_grad}


def test_import_is_light_and_names_are_complete():
    code = (
        "import sys, lora2; assert 'torch' not in sys.modules; from lora2 import LoRA2Config, RankAllocator, inject; "
        "import torch; m = torch.nn.Sequential(torch.nn.Linear(3, 2)); "
        "assert len(inject(m, LoRA2Config(targets=('0',))).layers) == 1"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert lora2.RankAllocator is RankAllocator
    assert lora2.LoRA2Config is LoRA2Config
    assert {*lora2.__all__} == {"LoRA2Config", "RankAllocator", "inject"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lora2.nothing


def test_the_version_is_the_installed_one_and_needs_no_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if not list(metadata.distributions(name=project["name"])):
        pytest.skip("the checkout is not installed, as under make gpu-check")
    code = "import sys, lora2; print(lora2.__version__); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == project["version"] == metadata.version(project["name"])


def test_a_checkout_that_is_not_installed_says_so(monkeypatch):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.delitem(vars(lora2), "__version__", raising=False)
    assert not hasattr(lora2, "__version__")
    with pytest.raises(AttributeError, match=r"pip install -e \."):
        _ = lora2.__version__


def test_dir_lists_the_public_names_before_they_are_loaded():
    code = "import lora2; print(*dir(lora2))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert {*lora2.__all__, "__version__", "__doc__"} <= {*done.stdout.split()}


class Watch(TrainerCallback):
    """Singular values that are not zero, before and after each optimizer step's mask."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter, self.after = adapter, list[int]()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.after.append(sum(self.adapter.ranks().values()))


def test_trainer_follows_the_budget_at_every_step(tmp_path: Path):
    made = trainer(tmp_path)
    watch = Watch(adapter_of(made))
    made.add_callback(watch)
    made.train()
    plan = allocator(adapter_of(made)).schedule
    assert watch.after == [plan.at(step) for step in range(STEPS)]
    assert watch.after[-1] == 12


WHOLE = {"per_device_train_batch_size": 32, "weight_decay": 0.0, "lr_scheduler_type": "constant", "max_grad_norm": 0.5}


def test_trainer_equals_a_loop_by_hand(tmp_path: Path):
    made = trainer(tmp_path, **WHOLE)
    made.train()
    model = encoder("bert").train()
    adapter = lora2.inject(model, LoRA2Config(k=2, r=R))
    pruning = allocator(adapter)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(adapter.param_groups(lr=1e-2), weight_decay=0.0)
    for step in range(STEPS):
        loss = model(input_ids=Rows().ids, labels=Rows().ids[:, 0] % 2).loss
        (loss + 0.1 * sum(adapter.penalties(frozenset({"uv", "UV", "PQ"}), "squared").values())).backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 0.5)
        pruning.observe(step)
        optimizer.step()
        pruning.mask(step)
        optimizer.zero_grad()
    for name, weight in weights(made).items():
        torch.testing.assert_close(weight, trained[name].detach(), rtol=1e-3, atol=1e-5, msg=name)


def test_singular_values_learn_at_their_own_rate_unless_an_optimizer_is_given(tmp_path: Path):
    made = trainer(tmp_path)
    rates = {id(p): group["lr"] for group in made.create_optimizer().param_groups for p in group["params"]}
    assert rates.keys() == {id(p) for p in made.model.parameters() if p.requires_grad}
    singular = {id(stack.lam) for stack in adapter_of(made).factor_stacks()}
    assert [rates[p] for p in singular] == pytest.approx([0.2] * len(singular))
    assert {rate for p, rate in rates.items() if p not in singular} == {1e-2}
    given = trainer(tmp_path)
    given.optimizer = torch.optim.SGD(adapter_of(given).parameters(), lr=3.0)
    assert [group["lr"] for group in given.create_optimizer().param_groups] == [3.0]


def test_accumulation_does_not_multiply_the_regularisers(tmp_path: Path):
    whole = trainer(tmp_path, **WHOLE)
    parts = trainer(tmp_path, **WHOLE | {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4})
    for made in (whole, parts):
        made.train()
    for (name, one), other in zip(weights(whole).items(), weights(parts).values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5, msg=name)


def test_reported_losses_are_the_tasks_alone(tmp_path: Path):
    made = trainer(tmp_path, gamma=1e4)
    plain = encoder("bert")(input_ids=Rows().ids, labels=Rows().ids[:, 0] % 2).loss.detach()
    assert made.evaluate()["eval_loss"] == pytest.approx(float(plain), abs=1e-5)
    made.train()
    assert made.state.log_history[0]["loss"] < 2
    assert float(made.penalty().detach()) > 1e4


def test_regularisers_reach_the_factors_and_no_other_weight(tmp_path: Path):
    made, without = (trainer(tmp_path, gamma=gamma, callback=False, max_steps=1) for gamma in (0.1, 0))
    for each in (made, without):
        each.train()
    one, two = weights(made), weights(without)
    moved = {name for name in one if (one[name] != two[name]).any()}
    assert moved
    assert all(name.startswith("lora2.") for name in moved)


def test_resumed_training_ends_where_uninterrupted_training_ends(tmp_path: Path):
    options = {"save_strategy": "steps", "save_steps": 4, "save_only_model": False}
    whole = trainer(tmp_path / "run", **options)
    whole.train()
    assert (tmp_path / "run" / "checkpoint-4" / STATE_FILE).is_file()
    resumed = trainer(tmp_path / "run", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    for (name, one), two in zip(weights(whole).items(), weights(resumed).values(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, msg=name)
    (tmp_path / "run" / "checkpoint-4" / STATE_FILE).unlink()
    with pytest.raises(UserError, match="resume from a checkpoint that LoRA2Callback has seen"):
        trainer(tmp_path / "run", **options).train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))


def test_fp16_is_refused(tmp_path: Path):
    made = trainer(tmp_path)
    made.args.fp16 = True
    callback = next(c for c in made.callback_handler.callbacks if isinstance(c, LoRA2Callback))
    with pytest.raises(UserError, match="bf16"):
        callback.on_train_begin(made.args, made.state, made.control)
