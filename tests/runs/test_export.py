"""Exported runs: stock libraries, in a process that cannot import lora2, give the trained model's logits.

Also: the pair of least rank is ΔW exactly; what is dropped, what stands in for nothing; the command and its card.
"""

import json
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from glue.conftest import WORDS, make_tokenizer
from helpers import runs
from helpers.exporting import Home, K, R, make_run
from helpers.toys import KINDS, SIZES, adapted, encoder, tokens
from httpx2 import ConnectError
from huggingface_hub import HfApi
from peft import AutoPeftModelForSequenceClassification, LoraConfig, PeftModel
from safetensors.torch import load_file
from torch import Tensor

from lora2.config.initial import FACTORS
from lora2.config.resolve import resolve
from lora2.core.adapter import Adapter
from lora2.core.heads import head_modules, head_parameters
from lora2.core.layers import LoRA2Linear
from lora2.core.peft_format import save_lora
from lora2.runs.export.folder import TOLERANCE as TOLERANCE_OF_EXPORT
from lora2.runs.export.folder import export_run
from lora2.runs.export.formats import TRIED_PEFT, largest_difference, save_merged
from lora2.runs.export.pairs import lora_pairs
from lora2.runs.initial import EXPORT_FACTS
from lora2.runs.restore import open_run, trained_model
from scripts import export as cli

# peft 0.21 asks transformers 5.23 for a name that it will drop
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

TOLERANCE = 1e-5
OUTSIDE = """
import json, sys
sys.modules["lora2"] = None  # an import of it now raises ImportError
import torch
from peft import AutoPeftModelForSequenceClassification, LoraConfig, PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer
jobs, ids, mask = json.loads(sys.argv[1]), *torch.tensor(json.loads(sys.argv[2]))
logits = {}
for name, folder in jobs.items():
    source = folder + "/base" if name.endswith("lora") else folder
    model = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32)
    assert not any("lora2" in parameter for parameter, _ in model.named_parameters())
    if name.endswith("lora"):
        model = PeftModel.from_pretrained(model, folder)
    with torch.no_grad():
        logits[name] = model.eval()(input_ids=ids, attention_mask=mask).logits
    assert AutoTokenizer.from_pretrained(source)("the cat", "a dog")["input_ids"][0] == 2
save_file(logits, sys.argv[3])
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_run(tmp_path, "bert", "mixed")


@torch.no_grad()
def test_stock_libraries_give_our_logits_without_lora2(tmp_path: Path):
    cases = [(kind, "mixed", "rte") for kind in KINDS] + [("bert", "full", "rte"), ("bert", "none", "rte")]
    cases += [("deberta-v2", "one", "stsb")]
    ids = torch.randint(4, SIZES["vocab_size"], (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[-1, 5:] = 0
    jobs, ours = {}, {}
    for case in cases:
        name = "-".join(case)
        made = make_run(tmp_path / name, *case)
        saved = open_run(made.run_id, "best", made.results)
        model, _ = trained_model(saved)
        for form in ("lora", "merged"):
            folder = tmp_path / f"{name}-{form}"
            export_run(saved, form, folder)
            jobs[folder.name] = str(folder)
            ours[folder.name] = model(input_ids=ids, attention_mask=mask).logits
    inputs = json.dumps([ids.tolist(), mask.tolist()])
    command = [sys.executable, "-I", "-c", OUTSIDE, json.dumps(jobs), inputs, str(tmp_path / "logits")]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    theirs = load_file(tmp_path / "logits")
    assert {
        name: float((theirs[name] - ours[name]).abs().max()) for name in ours if not close(theirs[name], ours[name])
    } == {}
    assert float(ours["bert-mixed-rte-lora"].std()) > 0.1  # far from constant logits, which would agree for any adapter


def close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and float((one - other).abs().max()) <= TOLERANCE


def pruned(kind: str, **config: object) -> tuple[torch.nn.Module, Adapter]:
    """An adapted encoder with 0, 1, 2, 3, 4 singular values left in turn."""
    model, adapter = adapted(kind, k=K, r=R, **config)
    with torch.no_grad():
        for i, layer in enumerate(adapter.layers.values()):
            layer.stack.lam[layer.index, : R - i % (R + 1)] = 0
    return model, adapter


def test_pair_has_the_least_exact_rank_and_gives_delta_weight():
    _, adapter = pruned("bert")
    kept = adapter.ranks()
    for name, layer in adapter.layers.items():
        a, b = layer.lora_weights()
        assert (a.dtype, b.dtype) == (torch.float32, torch.float32)
        assert a.shape == (min(K, kept[name]), layer.weight.shape[1])
        assert b.shape == (layer.weight.shape[0], min(K, kept[name]))
        torch.testing.assert_close(
            b @ a, layer.delta_weight(), rtol=1e-5, atol=1e-5 * float(layer.delta_weight().abs().max())
        )
    assert set(kept.values()) == {0, 1, 2, 3, 4}


def test_config_names_only_what_is_left_and_scales_by_one(tmp_path: Path):
    model, adapter = pruned("deberta-v2", targets=("query", "ffn_w1", "ffn_w2"))
    ranks = save_lora(
        model,
        lora_pairs(model),
        tmp_path,
        base="some/model",
        revision="abc",
        task_type="SEQ_CLS",
        whole=head_modules(model),
    )
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert sorted(ranks.values()) == sorted(min(K, kept) for kept in adapter.ranks().values())
    left = {name: rank for name, rank in ranks.items() if rank}
    assert config["target_modules"] == sorted(left)
    assert {name: config["rank_pattern"].get(name, config["r"]) for name in left} == left
    assert config["rank_pattern"] == config["alpha_pattern"]
    assert config["r"] == config["lora_alpha"]
    assert (config["base_model_name_or_path"], config["revision"], config["task_type"]) == (
        "some/model",
        "abc",
        "SEQ_CLS",
    )
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    head = {name for name in tensors if ".lora_" not in name}
    assert head == {f"base_model.model.{name}" for name, _ in head_parameters(model)}
    assert len(tensors) == 2 * len(left) + len(head)
    loaded = PeftModel.from_pretrained(encoder("deberta-v2"), str(tmp_path))
    scales = {m.scaling["default"] for m in loaded.modules() if hasattr(m, "scaling")}
    assert scales == {1.0}


# Fields of LoraConfig and its parents in peft 0.12.0, src/peft/tuners/lora/config.py and src/peft/config.py. It refuses
# any other key ("unexpected keyword argument").
PEFT_0_12 = {
    "auto_mapping", "base_model_name_or_path", "revision", "peft_type", "task_type", "inference_mode",
    "r", "target_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out", "bias", "use_rslora", "modules_to_save",
    "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "megatron_config",
    "megatron_core", "loftq_config", "use_dora", "layer_replication",
}  # fmt: skip
ALWAYS_WRITTEN = {  # what says which adapter it is; old versions of PEFT read peft_type, and have other defaults
    "peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "target_modules", "inference_mode",
}  # fmt: skip


@pytest.mark.parametrize("pattern", ["mixed", "none"])
def test_config_has_no_key_that_an_old_peft_refuses_and_no_default(pattern: str, tmp_path: Path):
    home = make_run(tmp_path, "bert", pattern)
    export_run(open_run(home.run_id, "best", home.results), "lora", tmp_path / "lora")
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config.keys() <= PEFT_0_12
    assert config.keys() >= ALWAYS_WRITTEN
    defaults = LoraConfig().to_dict()
    assert {key for key, value in config.items() if value == defaults[key]} <= ALWAYS_WRITTEN


def test_the_tried_versions_end_with_the_installed_one():
    assert TRIED_PEFT[-1] == metadata.version("peft")


def test_auto_classes_find_a_base_that_is_a_folder(tmp_path: Path):
    base = tmp_path / "own" / "base"
    encoder("bert").save_pretrained(base)
    make_tokenizer(WORDS).save_pretrained(base)
    batch = tokens()
    homes = {
        "random": make_run(tmp_path / "a", "bert", "mixed"),
        "own": make_run(tmp_path / "b", "bert", "one", path=base),
    }
    for name, home in homes.items():
        saved = open_run(home.run_id, "best", home.results)
        export_run(saved, "lora", tmp_path / name / "lora")
        loaded = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / name / "lora", num_labels=2).eval()
        torch.testing.assert_close(loaded(**batch).logits, trained_model(saved)[0](**batch).logits)


def test_a_folder_given_for_a_hub_model_is_the_base_that_is_named(tmp_path: Path):
    """model.path wins over model.hub_id where weights are loaded, so the export must not name the hub's."""
    base = tmp_path / "base"
    encoder("bert").save_pretrained(base)
    make_tokenizer(WORDS).save_pretrained(base)
    home = make_run(tmp_path, "bert", "one", path=base)
    saved = open_run(home.run_id, "best", home.results)
    model = saved.cfg.model.model_copy(update={"hub_id": "some/bert", "revision": "abc"})
    saved = replace(saved, cfg=saved.cfg.model_copy(update={"model": model}))
    export_run(saved, "lora", tmp_path / "lora")
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    assert "revision" not in config
    assert "base_model:" not in (tmp_path / "lora" / "README.md").read_text()


def test_equal_adapters_have_equal_files(tmp_path: Path):
    for folder in ("a", "b"):
        model = pruned("bert")[0]
        save_lora(model, lora_pairs(model), tmp_path / folder, base=None)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_wrong_tensor_is_caught_before_anything_appears(home: Home, tmp_path: Path, monkeypatch):
    right = LoRA2Linear.lora_weights
    monkeypatch.setattr(LoRA2Linear, "lora_weights", lambda layer: tuple(2 * x for x in right(layer)))
    with pytest.raises(RuntimeError, match="logits differ"):
        export_run(open_run(home.run_id, "best", home.results), "lora", tmp_path / "new" / "folder")
    assert list((tmp_path / "new").iterdir()) == []


def test_merged_file_has_the_stock_names_and_no_other(home: Home, tmp_path: Path):
    export_run(open_run(home.run_id, "best", home.results), "merged", tmp_path / "merged")
    assert load_file(tmp_path / "merged" / "model.safetensors").keys() == encoder("bert").state_dict().keys()


def test_merging_for_the_file_leaves_the_model_as_it_was(tmp_path: Path):
    model, adapter = pruned("bert")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_merged(model, adapter, tmp_path / "one")
    with adapter.merged():  # a model that is merged already gives the same file
        save_merged(model, adapter, tmp_path / "two")
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_difference_sees_one_changed_layer():
    model, _ = pruned("roberta")
    other, other_adapter = pruned("roberta")
    assert largest_difference(model, other, SIZES["vocab_size"]) == 0
    last = list(other_adapter.layers.values())[-1]
    with torch.no_grad():
        last.stack.lam[last.index] += 0.1
    assert largest_difference(model, other, SIZES["vocab_size"]) > TOLERANCE_OF_EXPORT


def test_command_writes_the_folder_says_so_and_replaces_an_earlier_export(home: Home, capsys):
    arguments = ["lora", home.run_id, "--results", str(home.results)]
    assert cli.main(arguments) == 0
    said = capsys.readouterr()
    folder = home.outputs / home.run_id / "export" / "lora-best"
    assert said.out == f"{folder}\n"
    assert "9 of 12 matrices" in said.err  # 0, 1, 2, 3, 4 in turn: the first, sixth and eleventh are empty
    assert {path.name for path in folder.iterdir()} == {
        "README.md", EXPORT_FACTS, FACTORS, "adapter_config.json", "adapter_model.safetensors", "base",
    }  # fmt: skip
    (folder / "stale").touch()
    assert cli.main(arguments) == 0
    assert not (folder / "stale").exists()
    facts = json.loads((folder / EXPORT_FACTS).read_text())
    assert (facts["run_id"], facts["form"], facts["which"]) == (home.run_id, "lora", "best")
    assert [path.name for path in folder.parent.iterdir()] == ["lora-best"]


def test_card_says_what_it_is(home: Home, tmp_path: Path):
    saved = open_run(home.run_id, "best", home.results)
    export_run(saved, "merged", tmp_path / "merged")
    card = (tmp_path / "merged" / "README.md").read_text()
    for said in (
        "Synthetic data",
        "Random weights",
        "synthetic-data",
        "0.7500",
        "after 3 of 8 steps",
        "9,000",
        home.run_id,
    ):
        assert said in card
    assert "model-index" not in card  # nothing that a leaderboard would pick up
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["id2label"] == {"0": "entailment", "1": "not_entailment"}


def test_card_of_real_data_and_weights_names_its_base(home: Home, tmp_path: Path):
    from lora2.runs.export.model_card import Exported, model_card

    saved = open_run(home.run_id, "best", home.results)
    real = saved.record.model_copy(update={"synthetic": False, "model_random_init": False})
    model = saved.cfg.model.model_copy(update={"random_init": False, "hub_id": "some/bert", "revision": "abc"})
    exported = Exported("lora", "last", {"a": 0, "b": 0}, 1e-7)
    card = model_card(real, saved.cfg.model_copy(update={"model": model, "selection": "heldout"}), exported)
    for said in (
        "base_model: some/bert",
        "datasets: nyu-mll/glue",
        'revision="abc"',
        "0.5000",
        "No matrix kept",
        "`best` on a part of the training data",
        "rank 0: 2",
    ):
        assert said in card
    assert "**Synthetic" not in card
    assert "**Random" not in card
    assert "sentence pairs" not in card
    tuned = saved.cfg.model_copy(update={"model": model.model_copy(update={"name": "mpnet"})})
    told = "AllNLI, Quora and SQuAD among them: scores on MNLI, QQP and QNLI are not clean."
    assert told in model_card(real, tuned, exported)
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")


def test_push_uploads_privately_or_says_why_not(home: Home, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, *a, **k: calls.append((a, k)))
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **k: calls.append(k))
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    arguments = ["lora", home.run_id, "--results", str(home.results), "--push", "me/mine"]
    assert cli.main(arguments) == 0
    folder = home.outputs / home.run_id / "export" / "lora-best"
    assert calls == [(("me/mine",), {"private": True, "exist_ok": True}), {"repo_id": "me/mine", "folder_path": folder}]
    assert capsys.readouterr().out == f"{folder}\nhttps://huggingface.co/me/mine\n"

    def no_network(self: HfApi, *arguments: object, **options: object) -> None:
        raise ConnectError("Connection refused")  # neither an OSError nor one of the hub's

    monkeypatch.setattr(HfApi, "create_repo", no_network)
    assert cli.main(arguments) == 1
    assert capsys.readouterr().err.endswith("lora-best is written but not uploaded (Connection refused)\n")


ADALORA = ("method=adalora", "rank.r=4", "budget.target_rank=2", "recipe.max_steps=8")


@pytest.mark.parametrize("overrides", [(), ADALORA], ids=["lora2", "adalora"])
def test_a_run_of_the_real_trainer_can_be_exported(overrides, tmp_path: Path, capsys):
    from lora2.training.run import run

    cfg = resolve(runs.compose(*runs.TINY, "recipe=demo", *runs.folders(tmp_path), *overrides))
    assert run(cfg) == 0
    (record,) = (tmp_path / "results" / "runs").glob("*.json")
    for which in ("best", "last"):
        assert cli.main(["lora", str(record), "--which", which]) == 0
        assert f"lora-{which}" in capsys.readouterr().out
    assert cli.main(["merged", str(record)]) == 0
    card = (Path(capsys.readouterr().out.strip()) / "README.md").read_text()
    name, sizes = ("AdaLoRA", "| r, alpha |") if overrides else ("LoRA²", "| k, r, alpha |")
    assert f"with {name} (" in card
    assert sizes in card
    checks = json.loads(record.read_text())["checks"]
    assert checks["merged_equals_unmerged"]
    assert checks["exported_equals_unmerged"]


def test_what_has_no_factors_of_ours_is_not_exported(tmp_path: Path, capsys):
    from lora2.training.run import run

    assert run(resolve(runs.compose(*runs.TINY, *runs.folders(tmp_path), *ADALORA, "method.impl=peft"))) == 0
    (record,) = (tmp_path / "results" / "runs").glob("*.json")
    assert cli.main(["lora", str(record)]) == 2
    assert "its method is adalora with method.impl=peft; only method=lora2" in capsys.readouterr().err
