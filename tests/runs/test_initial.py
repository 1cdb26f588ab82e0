"""A run that starts from another's adapter: what it starts with, what it is named by, what is refused."""

import shutil
from pathlib import Path

import pytest
import torch
from glue.conftest import WORDS, make_tokenizer
from helpers.exporting import Home, K, R, make_run, settings
from helpers.runs import TINY, compose, folders
from helpers.toys import encoder
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lora2.common.errors import UserError
from lora2.config.identity import run_id, setting_id
from lora2.config.initial import is_adapter
from lora2.config.resolve import resolve
from lora2.config.schema import RunConfig
from lora2.glue.data import load_raw
from lora2.runs.export.folder import export_run
from lora2.runs.record import read_record, record_path
from lora2.runs.restore import open_run
from lora2.training.build import build_accelerator, build_trainer
from lora2.training.data import load_task_data
from lora2.training.run import run

SIZES = {"lora2": ["rank.k=2", "rank.r=4"], "lora": ["method=lora", "rank.r=2"]}


def train(folder: Path, *overrides: str) -> tuple[RunConfig, str]:
    """A run on RTE; its settings and its id."""
    cfg = resolve(compose(*TINY, *folders(folder), "recipe.lr=0.02", *overrides))
    assert run(cfg) == 0
    return cfg, run_id(cfg, load_raw(cfg.task, "demo", None).fingerprint)


def beginning(cfg: RunConfig) -> dict[str, Tensor]:
    """The trained parameters of a run before its first step."""
    raw = load_raw(cfg.task, "demo", None)
    trainer = build_trainer(cfg, load_task_data(cfg, raw), build_accelerator("fp32"))
    return {name: p.detach() for group in trainer.method.groups for name, p in group.parameters.items()}


def mrpc(folder: Path, *overrides: str) -> RunConfig:
    return resolve(compose(*TINY, *folders(folder), "task=mrpc", "budget=none", *overrides))


@pytest.mark.parametrize("method", SIZES)
def test_it_starts_with_the_best_adapter_and_a_fresh_head(method: str, tmp_path: Path):
    _, name = train(tmp_path, *SIZES[method])
    best = load_file(tmp_path / "outputs" / name / "best.safetensors")
    began = beginning(mrpc(tmp_path, *SIZES[method], f"init_from={name}"))
    fresh = beginning(mrpc(tmp_path, *SIZES[method]))
    adapter = {n for n in began if is_adapter(n)}
    assert 0 < len(adapter) < len(began)
    assert all(torch.equal(began[n], best[n]) for n in adapter)
    assert any(not torch.equal(began[n], fresh[n]) for n in adapter)
    assert all(torch.equal(began[n], fresh[n]) for n in began.keys() - adapter)


@pytest.mark.parametrize("method", SIZES)
def test_such_a_run_trains_to_its_record_and_says_what_it_started_from(method: str, tmp_path: Path):
    _, name = train(tmp_path, *SIZES[method])
    cfg, own = train(tmp_path, *SIZES[method], "task=mrpc", f"init_from={name}")
    record = read_record(record_path(cfg.results_dir, own))
    assert record.status == "ok"
    assert record.config.variant.endswith("_init")
    assert record.config.resolved["init_from"] == name
    assert any(f"adapter of {name}" in note and "fresh head" in note for note in record.notes)
    assert f"_init-s{cfg.seed}-" in own


def test_an_exports_folder_starts_the_same_run_as_its_run(tmp_path: Path):
    cfg, name = train(tmp_path, *SIZES["lora2"])
    export_run(open_run(name, "best", Path(cfg.results_dir)), "lora", tmp_path / "export")
    shutil.copytree(tmp_path / "outputs" / name, tmp_path / "elsewhere" / name)
    sources = [name, str(tmp_path / "export"), str(tmp_path / "elsewhere" / name)]
    runs = [cfg.model_copy(update={"init_from": source}) for source in sources]
    assert len({run_id(each, "data") for each in runs}) == len({setting_id(each, "data") for each in runs}) == 1
    assert run_id(cfg, "data") not in {run_id(each, "data") for each in runs}
    one, *others = (beginning(mrpc(tmp_path, *SIZES["lora2"], f"init_from={source}")) for source in sources)
    assert all(torch.equal(one[n], other[n]) for other in others for n in one)


def starting(home: Home) -> RunConfig:
    """Settings of a run that starts from a made-up one."""
    where = {"output_dir": str(home.outputs), "results_dir": str(home.results), "init_from": home.run_id}
    return settings("bert").model_copy(update={**where, "budget": None})


def test_the_adapters_content_names_the_run_and_its_head_does_not(tmp_path: Path):
    home = make_run(tmp_path, "bert", "mixed")
    cfg = starting(home)
    before, weights = run_id(cfg, "data"), load_file(home.weights)
    save_file(weights | {"classifier.bias": weights["classifier.bias"] + 1}, home.weights)
    assert run_id(cfg, "data") == before
    name = next(n for n in weights if is_adapter(n))
    save_file(weights | {name: weights[name] + 1}, home.weights)
    assert run_id(cfg, "data") != before
    shutil.rmtree(home.outputs)
    assert run_id(cfg, "data") != before  # a plan knows a job whose source is not there


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (("model=minilm", "task=mrpc"), "minilm-mrpc-lora2_k8-s0-6af09d23fb8d"),
        (
            ("model=roberta_large", "task=rte", "method=lora", "recipe=lora_table9", "data=hub"),
            "roberta_large-rte-lora_r8_modules-qv-s0-12f110ace063",
        ),
    ],
)
def test_runs_from_before_these_settings_keep_their_names(overrides: tuple[str, ...], name: str):
    """Names that commit d26a26f gave; a finished run is found by its name."""
    assert run_id(resolve(compose(*overrides)), "data") == name


def test_a_kept_head_is_another_run():
    cfg = resolve(compose("model=minilm"))
    kept = cfg.model_copy(update={"model": cfg.model.model_copy(update={"keep_head": True})})
    assert run_id(kept, "data") != run_id(cfg, "data")


def test_what_was_pruned_starts_with_zeros(tmp_path: Path):
    home = make_run(tmp_path, "bert", "one")
    began, stored = beginning(starting(home)), load_file(home.weights)
    singular = [name for name in began if name.endswith(".lam")]
    assert all(torch.equal(began[name], stored[name]) for name in singular)
    assert 0 < sum(int(began[name].count_nonzero()) for name in singular) < 12 * R


def test_another_backbone_of_the_same_shape_is_refused(tmp_path: Path):
    cfg = starting(make_run(tmp_path, "bert", "mixed"))
    other = encoder("bert")
    nn.init.zeros_(other.bert.encoder.layer[0].attention.self.query.weight)
    other.save_pretrained(tmp_path / "other")
    make_tokenizer(WORDS).save_pretrained(tmp_path / "other")
    model = cfg.model.model_copy(update={"path": str(tmp_path / "other"), "random_init": False})
    with pytest.raises(UserError, match=r"init_from: .* was trained on another backbone"):
        beginning(cfg.model_copy(update={"model": model}))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rank.k=1", rf"rank\.k: got 1, .* has {K}; the two must agree: rank\.k={K}"),
        ("rank.r=2", rf"rank\.r: got 2, .* has {R}; the two must agree: rank\.r={R}"),
        ("rank.alpha=3", r"rank\.alpha: got 3\.0, .*: rank\.alpha=16"),
        ("method.targets=qv", r"method\.targets: got 'qv', .*: method\.targets=all"),
        ("method=lora", r"method\.name: got 'lora', .* has 'lora2'"),
        ("model=minilm", r"model\.architecture\.hidden_size: got 384, .* has 16"),
    ],
)
def test_other_settings_are_refused_before_a_model_is_loaded(override: str, said: str, tmp_path: Path, monkeypatch):
    home = make_run(tmp_path, "bert", "mixed")
    changed = resolve(
        compose("model=tiny", "task=rte", "recipe=demo", f"rank.k={K}", f"rank.r={R}", "budget=none", override)
    )
    kept = {name: getattr(starting(home), name) for name in ("output_dir", "results_dir", "init_from")}
    if not override.startswith("model="):
        kept["model"] = settings("bert").model
    monkeypatch.setattr("lora2.training.session.execute", lambda *_, **__: pytest.fail("a model would be loaded"))
    with pytest.raises(UserError, match=said):
        run(changed.model_copy(update=kept))
