"""What stock libraries are given of a run: its weights in a form that they load, its dev split, and what to compute."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from lora2.config.schema import GlueDataConfig, RunConfig
from lora2.core.heads import head_modules
from lora2.core.peft_format import save_lora
from lora2.glue import glue_metric, hub, local
from lora2.glue.raw import RawTask
from lora2.glue.tasks import TASKS
from lora2.glue.tokens import TokenisedSplit
from lora2.models.logits import Logits, compute_logits
from lora2.models.methods.base import Method
from lora2.models.weights import weight_source
from lora2.runs.export.pairs import lora_pairs
from lora2.runs.restore import SavedRun, backbone, tokenizer
from lora2.runs.verify.forms import FORMS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def write_job(saved: SavedRun, model: PreTrainedModel, raw: RawTask, folder: Path) -> Literal["lora", "whole"]:
    """Write job.json, as outside.py reads it, and the files that it names and that are nowhere else.

    Args:
        saved: the run.
        model: as `restore.trained_model` builds it.
        raw: the task's data.
        folder: an empty folder.

    Returns:
        The form in which the weights were written.
    """
    cfg, form = saved.cfg, FORMS[saved.record.config.method]
    base = folder / "base" if cfg.model.random_init else weight_source(cfg.model)
    if cfg.model.random_init:
        backbone(saved).save_pretrained(base)
        tokenizer(saved).save_pretrained(base)
    written = folder / form
    if form == "lora":
        save_lora(model, lora_pairs(model), written, base=None, task_type="SEQ_CLS", whole=head_modules(model))
    else:
        model.save_pretrained(written)
    job = {
        "task": cfg.task,
        "model": str((base if form == "lora" else written).absolute()),
        "adapter": str(written) if form == "lora" else None,
        "tokenizer": str(base.absolute()),
        "outputs": TASKS[cfg.task].num_labels,
        "max_length": cfg.recipe.max_length,
        "metric": str(Path(str(glue_metric.__file__)).parent),
        **_data(raw, cfg, folder),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return form


def own_logits(
    model: PreTrainedModel, method: Method, cfg: RunConfig, splits: Mapping[str, TokenisedSplit], pad_id: int
) -> dict[str, tuple[Logits, Logits]]:
    """Return the logits of every dev split in float32, and in the precision and form in which the run was scored.

    Args:
        model: in evaluation mode; it is moved to the device that computes.
        method: of the run.
        cfg: its settings.
        splits: by name; others than dev splits are passed over.
        pad_id: the tokenizer's padding id.
    """
    torch.nn.Module.to(model, DEVICE)

    recipe, names = cfg.recipe, TASKS[cfg.task].dev_splits

    def computed(form: AbstractContextManager[object]) -> dict[str, Logits]:
        size, width = recipe.batch_size, recipe.padded_to
        with form:
            return {
                name: compute_logits(model, splits[name], batch_size=size, pad_id=pad_id, max_length=width)
                for name in names
            }

    half = HALVES.get(recipe.precision)
    exact = computed(nullcontext())
    replayed = computed(method.merged() if half is None else torch.autocast(DEVICE, half))  # as training/evaluate.py
    return {name: (exact[name], replayed[name]) for name in exact}


def _data(raw: RawTask, cfg: RunConfig, folder: Path) -> dict[str, str | None]:
    """Where the dev splits are; synthetic ones are written as the official files would be."""
    assert isinstance(cfg.data, GlueDataConfig)  # others are not verified
    task = TASKS[cfg.task]
    if raw.source == "hub":
        return {"tsv": None, "hub": str(hub.snapshot(task, ("train", *task.dev_splits)))}
    if raw.source == "local":
        assert cfg.data.folder is not None  # they were read from it
        return {"tsv": str(cfg.data.folder.absolute()), "hub": None}
    for name in task.dev_splits:
        local.write_split(task, folder, name, raw.splits[name])
    return {"tsv": str(folder), "hub": None}
