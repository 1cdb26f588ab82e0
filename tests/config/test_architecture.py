"""model=hub: what a model's own config.json tells, and the task of one's own files."""

import json
from pathlib import Path

import pytest
from helpers.runs import compose_without_hydra

from lora2.common.errors import UserError
from lora2.config.identity import run_id, setting_id
from lora2.config.resolve import resolve
from lora2.config.schema import FilesDataConfig, RunConfig
from lora2.config.task import load_data, task_of, with_labels

DISTIL = {
    "model_type": "distilbert", "vocab_size": 50, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24,
    "max_position_embeddings": 200,
}  # fmt: skip


def model(folder: Path, **more: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(DISTIL | more))
    return folder


def settings(*words: str) -> RunConfig:
    return resolve(compose_without_hydra(["task=rte", "data=demo", *words]))


def test_sizes_come_under_our_names_and_are_checked(tmp_path: Path):
    folder = model(tmp_path / "my model")
    cfg = settings("model=hub", f"model.path={folder}").model
    assert (cfg.name, cfg.model_type) == ("my-model", "distilbert")
    assert cfg.architecture == {
        "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 200,
    }  # fmt: skip
    with pytest.raises(
        UserError, match=r"recipe\.max_length: got 256; use 200 or less, as the model has 200 positions"
    ):
        settings("model=hub", f"model.path={folder}", "recipe.max_length=256")
    named = settings("model=hub", f"model.path={folder}", "model.name=mine").model
    assert named.name == "mine"


def test_patterns_are_taken_and_name_the_variant(tmp_path: Path):
    cfg = settings("model=tiny", "rank=k1", "method.targets=[attn.Wqkv,layers.1.*Wo]")
    assert cfg.method.targets == ("attn.Wqkv", "layers.1.*Wo")
    assert cfg.variant == "lora2_k1_modules-attn.Wqkv+layers.1.-Wo"
    with pytest.raises(UserError, match=r"method\.targets: got 'every'; it must be 'all', 'qk', 'qv' or 'qkv'"):
        settings("model=tiny", "rank=k1", "method.targets=every")


def own(folder: Path, *words: str) -> RunConfig:
    for name in ("train", "dev"):
        (folder / f"{name}.csv").write_text("text,label\na,yes\nb,no\n")
    paths = (f"data.train={folder / 'train.csv'}", f"data.dev={folder / 'dev.csv'}")
    return resolve(compose_without_hydra(["model=tiny", "rank=k1", "data=files", *paths, *words]))


def test_ones_own_files_are_a_task_whose_labels_the_run_fills_in(tmp_path: Path):
    cfg = own(tmp_path, "data.name=mine")
    assert cfg.task == "mine"
    raw = load_data(cfg)
    settled = with_labels(cfg, raw)
    assert isinstance(settled.data, FilesDataConfig)
    assert settled.data.labels == ("no", "yes")
    assert task_of(settled) == raw.spec
    assert run_id(settled, raw.fingerprint) == run_id(cfg, raw.fingerprint)
    assert run_id(cfg, raw.fingerprint).startswith("tiny-mine-lora2_k1-s0-")


def test_the_metric_is_part_of_a_runs_name_and_the_files_place_is_not(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, moved = own(tmp_path / "a"), own(tmp_path / "b")
    f1 = own(tmp_path / "a", "data.metric=f1")
    names = [setting_id(cfg, load_data(cfg).fingerprint) for cfg in (one, moved, f1)]
    assert names[0] == names[1] != names[2]
