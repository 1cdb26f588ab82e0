"""From a saved run to a folder that others can load: its weights in one of two forms, checked, with a model card."""

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from lora2.common.errors import UserError
from lora2.config.initial import FACTORS, is_adapter
from lora2.config.schema import ModelConfig
from lora2.core.adapter import Adapter
from lora2.core.heads import head_modules
from lora2.core.layers import LoRA2Linear
from lora2.core.peft_format import save_lora
from lora2.models.methods.adalora import AdaLoRA
from lora2.models.methods.lora2 import LoRA2
from lora2.models.weights import on_hub, weight_source
from lora2.runs.export.formats import largest_difference, load_lora, load_merged, save_merged
from lora2.runs.export.model_card import Exported, Form, model_card
from lora2.runs.export.pairs import lora_pairs
from lora2.runs.finished import require_exportable
from lora2.runs.initial import EXPORT_FACTS, source_facts
from lora2.runs.restore import SavedRun, backbone, tokenizer, trained_model

TOLERANCE = 1e-4  # of the largest logit: float32 rounding through a deep encoder; a lost matrix or head is far above


def export_run(saved: SavedRun, form: Form, folder: Path) -> Exported:
    """Write the run to `folder`, in place of an earlier export. The folder appears whole or not at all.

    Args:
        saved: the run, and which of its weights.
        form: "lora" writes a stock LoRA adapter, "merged" the whole model.
        folder: new, empty, or an earlier export.

    Returns:
        What was written.

    Raises:
        UserError: it is no run of LoRA² or of our AdaLoRA, `folder` holds something else, or the run cannot be rebuilt.
        RuntimeError: what was written, loaded by stock libraries, does not give the trained model's logits.
    """
    require_exportable(saved.record)
    if folder.exists() and not (folder / EXPORT_FACTS).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"--output: {folder} exists and is no earlier export; choose a new or empty folder, or remove it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as scratch:
        new = Path(scratch) / "export"
        exported = _write(saved, form, new, folder)
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    return exported


def _write(saved: SavedRun, form: Form, folder: Path, home: Path) -> Exported:
    """Write into `folder`, which will lie at `home` in the end."""
    folder.mkdir()
    model, method = trained_model(saved)
    assert isinstance(method, LoRA2 | AdaLoRA)
    if form == "lora":
        ranks, loaded = _write_lora(saved, model, folder, home)
    else:
        ranks, loaded = _write_merged(saved, model, method.adapter, folder)
    exported = Exported(
        form=form,
        which=saved.which,
        ranks=ranks,
        difference=largest_difference(model, loaded, model.config.vocab_size),
    )
    if not exported.difference <= TOLERANCE:
        raise RuntimeError(f"{folder.name}: logits differ by {exported.difference:g} of the largest; nothing written")
    facts = {"run_id": saved.record.run_id, **asdict(exported), **source_facts(saved.record, saved.cfg)}
    (folder / EXPORT_FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(model_card(saved.record, saved.cfg, exported), encoding="utf-8")
    return exported


def _write_lora(saved: SavedRun, model: PreTrainedModel, folder: Path, home: Path) -> tuple[dict[str, int], nn.Module]:
    """Write the adapter; a random backbone, which nobody else can have, is put beside it in base/."""
    source = saved.cfg.model
    from_hub = on_hub(source)
    ranks = save_lora(
        model,
        lora_pairs(model),
        folder,
        base=source.hub_id if from_hub else str(_base_folder(source, home).resolve()),
        revision=source.revision if from_hub else None,
        task_type="SEQ_CLS",
        whole=head_modules(model),
    )
    factors = {name: x for name, x in saved.weights.items() if is_adapter(name)}
    save_file(factors, folder / FACTORS, metadata={"format": "pt"})  # for another run's init_from
    base = backbone(saved)
    if source.random_init:
        base.save_pretrained(folder / "base")
        tokenizer(saved).save_pretrained(folder / "base")
    return ranks, load_lora(base, folder)


def _base_folder(source: ModelConfig, home: Path) -> Path:
    """Where the backbone lies on this machine, for AutoPeftModelForSequenceClassification."""
    return home / "base" if source.random_init else weight_source(source)


def _write_merged(
    saved: SavedRun, model: PreTrainedModel, adapter: Adapter, folder: Path
) -> tuple[dict[str, int], nn.Module]:
    """Write the whole model and its tokenizer; ranks are as the adapter's would be."""
    save_merged(model, adapter, folder)
    tokenizer(saved).save_pretrained(folder)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoRA2Linear)}
    kept = {id(layer): int(layer.stack.lam[layer.index].count_nonzero()) for layer in layers.values()}
    ranks = {name: min(layer.stack.u.shape[2], kept[id(layer)]) for name, layer in layers.items()}
    return ranks, load_merged(folder)
