"""What the head starts from: fresh, whatever head the weights come with, unless it is asked for."""

from pathlib import Path

import pytest
import torch
from helpers.exporting import settings
from helpers.toys import KINDS, encoder
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from lora2.common.errors import UserError
from lora2.config.schema import ModelConfig
from lora2.core.heads import head_parameters
from lora2.models.backbone import load_model
from lora2.models.head import head_notes, trained_labels


@torch.no_grad()
def trained(kind: str, labels: int, folder: Path, *, sharded: bool = False) -> Path:
    """A folder with a classifier whose head is far from any fresh one."""
    torch.manual_seed(3)
    config = encoder(kind).config
    config.num_labels, config.problem_type = labels, "regression"
    model = AutoModelForSequenceClassification.from_config(config)
    for _, parameter in head_parameters(model):
        parameter.fill_(7.0)
    model.save_pretrained(folder, max_shard_size="4KB" if sharded else "1GB")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def headless(folder: Path, kind: str) -> Path:
    """The same folder without the head's tensors."""
    path = folder / "model.safetensors"
    head = {name for name, _ in head_parameters(encoder(kind))}
    left = {name: x for name, x in load_file(path).items() if name not in head}
    save_file(left, path, metadata={"format": "pt"})
    return folder


def config(kind: str, folder: Path, *, keep: bool = False) -> ModelConfig:
    return settings(kind, path=folder).model.model_copy(update={"keep_head": keep})


def load(cfg: ModelConfig, labels: int) -> tuple[PreTrainedModel, Tensor]:
    """The model, and a number that the random generator draws behind it."""
    torch.manual_seed(5)
    return load_model(cfg, labels, None), torch.rand(1)


@pytest.mark.parametrize("labels", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_head_is_fresh_and_that_of_a_checkpoint_without_one(kind: str, labels: int, tmp_path: Path):
    """From the weights of a three-way classifier, for every number of labels, its own among them."""
    with_head, next_one = load(config(kind, trained(kind, 3, tmp_path / "a")), labels)
    without, next_other = load(config(kind, headless(trained(kind, 3, tmp_path / "b"), kind)), labels)
    assert next_one == next_other  # the adapter's initial values come behind the head's
    expected = dict(without.named_parameters())
    assert all(torch.equal(p, expected[name]) for name, p in with_head.named_parameters())
    assert all((p != 7.0).all() for _, p in head_parameters(with_head))
    assert with_head.config.problem_type is None
    assert with_head.config.num_labels == labels


def test_a_head_in_one_of_several_files_is_found(tmp_path: Path):
    folder = trained("bert", 2, tmp_path, sharded=True)
    assert not (folder / "model.safetensors").exists()
    assert trained_labels(AutoConfig.from_pretrained(folder), folder) == 2
    model, _ = load(config("bert", folder), 2)
    assert all((p != 7.0).all() for _, p in head_parameters(model))


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_head_is_kept_where_it_is_asked_for(kind: str, tmp_path: Path):
    folder = trained(kind, 2, tmp_path)
    model, _ = load(config(kind, folder, keep=True), 2)
    assert all((p == 7.0).all() for _, p in head_parameters(model))
    assert head_notes(config(kind, folder, keep=True), folder, 2) == [
        f"model.keep_head: the head starts as the trained one in {folder}"
    ]


def test_a_model_with_a_fresh_head_is_saved_under_its_own_names(tmp_path: Path):
    model, _ = load(config("bert", trained("bert", 3, tmp_path / "a")), 2)
    model.save_pretrained(tmp_path / "b")
    saved = load_file(tmp_path / "b" / "model.safetensors")
    assert saved.keys() == model.state_dict().keys()
    torch.testing.assert_close(saved["classifier.weight"], model.classifier.weight.detach(), rtol=0, atol=0)


def test_a_head_that_cannot_be_kept_is_refused(tmp_path: Path):
    folder = trained("roberta", 3, tmp_path)
    cfg = config("roberta", folder, keep=True)
    for ask in (lambda: head_notes(cfg, folder, 2), lambda: load(cfg, 2)):
        with pytest.raises(
            UserError, match=r"model\.keep_head: got true, .* a head of 3 outputs, .* needs 2; .*=false"
        ):
            ask()
    headless(folder, "roberta")
    with pytest.raises(UserError, match="no trained head"):
        head_notes(cfg, folder, 2)


def test_a_note_says_that_a_trained_head_is_left_out(tmp_path: Path):
    folder = trained("mpnet", 3, tmp_path)
    (note,) = head_notes(config("mpnet", folder), folder, 2)
    assert "starts fresh" in note
    assert "model.keep_head=true" in note
    assert head_notes(config("mpnet", headless(folder, "mpnet")), folder, 2) == []


OTHERS = {  # whose last layer has another name, or another encoder before it
    "xlnet": {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 24},
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24},
    "electra": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24},
    "funnel": {"d_model": 16, "block_sizes": [1, 1], "n_head": 2, "d_head": 8, "d_inner": 24},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_the_head_of_any_architecture_is_found_by_its_structure(kind: str, tmp_path: Path):
    """Among them XLNet's logits_proj and Funnel's classifier.linear_out."""
    architecture = AutoConfig.for_model(kind, vocab_size=50, num_labels=2, **OTHERS[kind])
    model = AutoModelForSequenceClassification.from_config(architecture)
    head = [name for name, p in head_parameters(model) if not p.detach().fill_(7.0).isnan().any()]
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    cfg = settings("bert", path=tmp_path).model.model_copy(update={"model_type": kind})
    for keep in (False, True):
        loaded = dict(load_model(cfg.model_copy(update={"keep_head": keep}), 2, None).named_parameters())
        assert {bool((loaded[name] == 7.0).all()) for name in head} == {keep}
    assert "starts fresh" in head_notes(cfg, tmp_path, 2)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_dropout_before_the_classifier_is_the_recipes(kind: str):
    """DeBERTaV3's configuration leaves the setting out, and MPNet has none."""
    cfg = settings(kind).model
    rates = [module.p for module in load_model(cfg, 2, 0.375).modules() if isinstance(module, torch.nn.Dropout)]
    assert rates.count(0.375) == 1
    assert 0.375 not in [x.p for x in load_model(cfg, 2, None).modules() if isinstance(x, torch.nn.Dropout)]
