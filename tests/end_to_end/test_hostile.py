"""Files, names, surroundings that mean harm: no pickle or foreign code is run, no path escapes, no secret is kept."""

import ast
import hashlib
import json
import pickle
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from glue.conftest import WORDS, make_tokenizer
from helpers.fake_wandb import serve
from helpers.runs import CONFIGS, ROOT, TINY, command, compose
from helpers.toys import encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lora2.common.errors import UserError
from lora2.config.identity import run_id
from lora2.config.resolve import resolve
from lora2.config.schema import ModelConfig
from lora2.glue import hub, tensor_cache
from lora2.models.backbone import load_model
from lora2.models.tokenizer import load_tokenizer
from lora2.runs.record import record_path
from lora2.runs.restore import _read_weights
from lora2.training.checkpoint import MANIFEST, STATE, TENSORS, Checkpoint, CheckpointFolder

# ------------------------------------------------------------------------------------------------------------- pickles


class Payload:
    """Leaves a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.marker), "w")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-was-run"


@pytest.fixture(params=["pickle", "torch"])
def poison(request: pytest.FixtureRequest, marker: Path, tmp_path: Path) -> bytes:
    """A pickle as it is, or in the zip that torch.save writes."""
    if request.param == "pickle":
        return pickle.dumps(Payload(marker))
    torch.save(Payload(marker), tmp_path / "poison.pt")
    return (tmp_path / "poison.pt").read_bytes()


def test_the_payload_works(poison: bytes, marker: Path, tmp_path: Path):
    """Else the tests below would show nothing."""
    if poison[:2] == b"PK":
        torch.load(tmp_path / "poison.pt", weights_only=False).close()
    else:
        pickle.loads(poison).close()
    assert marker.exists()


@pytest.mark.parametrize("name", [TENSORS, STATE, MANIFEST])
def test_a_pickle_in_a_checkpoint_is_not_loaded(name: str, poison: bytes, marker: Path, tmp_path: Path):
    """Though its checksum is right."""
    folder = CheckpointFolder(tmp_path / "checkpoints", "run")
    folder.save(Checkpoint(3, {"x": torch.zeros(2)}, {"fit": {}}))
    (step,) = (tmp_path / "checkpoints").iterdir()
    manifest = json.loads((step / MANIFEST).read_text())
    manifest["sha256"][name] = hashlib.sha256(poison).hexdigest()
    (step / MANIFEST).write_text(json.dumps(manifest))
    (step / name).write_bytes(poison)
    found, damaged = folder.latest()
    assert found is None
    assert "is not used" in damaged[0]
    assert not marker.exists()


def test_a_pickle_for_trained_weights_is_not_loaded(poison: bytes, marker: Path, tmp_path: Path):
    (tmp_path / "best.safetensors").write_bytes(poison)
    with pytest.raises(UserError, match=r"best\.safetensors: damaged"):
        _read_weights(tmp_path / "best.safetensors")
    assert not marker.exists()


def test_a_pickle_in_the_token_cache_is_not_loaded(poison: bytes, marker: Path, tmp_path: Path):
    path, key = tmp_path / "tokens.safetensors", {"data": "x"}
    tensor_cache.store(path, {"ids": np.zeros(3, np.int32)}, key)
    assert tensor_cache.load(path, key) is not None
    path.write_bytes(poison)
    assert tensor_cache.load(path, key) is None  # so it is made anew
    assert not marker.exists()


def whole_model(folder: Path) -> ModelConfig:
    """A BERT with random weights and its tokenizer, as transformers saves them."""
    encoder("bert").save_pretrained(folder)
    make_tokenizer(WORDS).save_pretrained(folder)
    return ModelConfig(name="mine", model_type="bert", path=str(folder), architecture={})


def test_a_model_of_pickles_is_refused(poison: bytes, marker: Path, tmp_path: Path):
    cfg = whole_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(poison)
    for load in (lambda: load_model(cfg, 2, None), lambda: load_tokenizer(cfg, None)):
        with pytest.raises(UserError, match="is a pickle, which is never loaded"):
            load()
    assert not marker.exists()


def test_pickles_and_code_beside_a_model_are_not_run(poison: bytes, marker: Path, tmp_path: Path):
    """Every file that some loader would load or import, and the settings that would make it do so."""
    cfg = whole_model(tmp_path / "model")
    for name in ("pytorch_model.bin", "training_args.bin", "adapter_model.bin", "optimizer.pt", "tf_model.h5"):
        (tmp_path / "model" / name).write_bytes(poison)
    for name in ("modeling_mine.py", "configuration_mine.py", "tokenization_mine.py"):
        (tmp_path / "model" / name).write_text(f"open({str(marker)!r}, 'w').close()\n")
    classes = {"AutoModelForSequenceClassification": "modeling_mine.Mine", "AutoConfig": "configuration_mine.Mine"}
    amend(tmp_path / "model" / "config.json", auto_map=classes)
    amend(tmp_path / "model" / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "tokenization_mine.Mine"]})
    assert load_model(cfg, 2, None).config.num_labels == 2
    assert load_tokenizer(cfg, None)("a b")["input_ids"]
    assert not marker.exists()


def amend(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_an_adapter_is_not_taken_for_a_model(tmp_path: Path):
    """transformers would follow its base_model_name_or_path to wherever it leads."""
    cfg = whole_model(tmp_path / "model")
    (tmp_path / "model" / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    save_file({"x": torch.zeros(1)}, tmp_path / "model" / "adapter_model.safetensors")
    with pytest.raises(UserError, match="an adapter, not a whole model"):
        load_model(cfg, 2, None)


def test_no_source_loads_a_pickle_or_foreign_code():
    forbidden = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for path in [*ROOT.glob("lora2/**/*.py"), *ROOT.glob("scripts/*.py"), *ROOT.glob("examples/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {alias.name.split(".")[0] for alias in node.names} if isinstance(node, ast.Import) else set()
            if isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("torch.load", "eval", "exec"), (path, node.lineno)
                keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert keywords.get("trust_remote_code", "False") == "False", (path, node.lineno)
                assert keywords.get("shell", "False") == "False", (path, node.lineno)
            assert not names & forbidden, (path, node.lineno)


def test_what_comes_from_the_hub_is_pinned_by_its_commit():
    models = [yaml.safe_load(path.read_text()) for path in (CONFIGS / "model").glob("*.yaml")]
    revisions = [model["revision"] for model in models if model["hub_id"]]
    assert len(revisions) >= 2
    assert all(re.fullmatch("[0-9a-f]{40}", revision) for revision in [*revisions, hub.REVISION])


# --------------------------------------------------------------------------------------------------------------- paths

AWKWARD = st.sampled_from(["..", "/", "../../x", "a/b", "\\", "a\x00b", "~", "C:", ".", "a" * 300, "a\n", "é", " "])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=AWKWARD | st.text(max_size=20), field=st.sampled_from(["model.name", "tracker.project"]))
def test_no_name_becomes_a_path(tmp_path_factory, name: str, field: str):
    """A name is refused, or it is one part of a path, and the run's files lie where they should."""
    base = tmp_path_factory.getbasetemp() / "paths"
    composed = compose(*TINY, "tracker=tensorboard", f"results_dir={base / 'r'}", f"output_dir={base / 'o'}")
    section, _, key = field.partition(".")
    composed[section][key] = name
    try:
        cfg = resolve(composed)
    except UserError as error:
        assert re.search(rf"{section}\.{key}: ", str(error))  # noqa: PT017 (both outcomes are allowed)
        return
    for part in (run_id(cfg, "data"), cfg.tracker.project):
        assert Path(part).name == part
        assert part not in ("", ".", "..")
    assert record_path(base / "r", run_id(cfg, "data")).resolve().parent == (base / "r" / "runs").resolve()


# -------------------------------------------------------------------------------------------------------------- secrets

SECRETS = (
    "WANDB_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "SLURM_JOB_SECRET",
    "ANYTHING",
)


def test_no_file_keeps_an_environment_variable(tmp_path: Path):
    """Records, checkpoints, logs and all that wandb writes and sends, while it has a key and is on line."""
    planted = {name: f"planted{index:02}{name.lower()}".ljust(40, "x") for index, name in enumerate(SECRETS)}
    home = {name: str(tmp_path / "home") for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")}
    (tmp_path / "home").mkdir()
    with serve(silent=False) as (address, told):
        overrides = (*TINY, "tracker=wandb", "checkpoint.every_steps=2")
        done = command(*overrides, cwd=tmp_path, WANDB_BASE_URL=address, **home, **planted)
        end = time.monotonic() + 60
        while time.monotonic() < end and not list(tmp_path.rglob("*.wandb.synced")):
            time.sleep(0.2)
    assert done.returncode == 0, done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".json", ".wandb", ".log", ".synced"}
    held = {str(path): path.read_bytes() for path in files}
    held["the screen"] = (done.stdout + done.stderr).encode()
    assert any(b"UpsertBucket" in body for body in told.sent)
    held["the server"] = b"\n".join(told.sent)
    assert [where for where, content in held.items() if b"planted" in content] == []
