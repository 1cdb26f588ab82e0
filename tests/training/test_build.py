"""Assembling a trainer from settings, as a run, the benchmark and the timing do."""

import math
from pathlib import Path

import pytest
import torch
from helpers.runs import TINY, compose, folders

from lora2.config.resolve import resolve
from lora2.config.schema import RunConfig
from lora2.glue.data import load_raw
from lora2.glue.heldout import HELDOUT, train_size
from lora2.glue.raw import RawTask
from lora2.models.checksum import weights_hash
from lora2.training.build import build_accelerator, build_trainer
from lora2.training.data import load_task_data
from lora2.training.loop import Trainer
from lora2.training.state import trained_parameters


@pytest.fixture(scope="module")
def raw() -> RawTask:
    return load_raw("rte", "demo", None)


def settings(folder: Path, *overrides: str) -> RunConfig:
    return resolve(compose(*TINY, *folders(folder), "budget=none", *overrides))


def built(cfg: RunConfig, raw: RawTask) -> Trainer:
    return build_trainer(cfg, load_task_data(cfg, raw), build_accelerator(cfg.recipe.precision))


def test_a_seed_decides_the_model(tmp_path, raw):
    hashes = []
    for seed in (0, 0, 1):
        torch.manual_seed(123)  # what happened before does not matter
        hashes.append(weights_hash(built(settings(tmp_path, f"seed={seed}"), raw).model))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_trainer_is_that_of_its_settings(tmp_path, raw):
    cfg = settings(tmp_path, "selection=heldout", "recipe.max_steps=null", "recipe.epochs=3", "recipe.batch_size=7")
    trainer = built(cfg, raw)
    examples = train_size(len(raw.splits["train"]), "heldout")
    assert set(trainer.data.splits) == {"train", "validation", HELDOUT}
    assert len(trainer.data.splits["train"]) == examples
    assert trainer.total_steps == 3 * math.ceil(examples / 7)
    trained = {id(p) for p in trainer.model.parameters() if p.requires_grad}
    assert trained == {id(p) for p in trained_parameters(trainer.method).values()}


def test_an_accelerator_may_follow_one_of_another_precision():
    for precision, mixed in (("bf16", "bf16"), ("fp32", "no")):
        assert build_accelerator(precision).mixed_precision == mixed
