"""A finished run, back from its record and its weights file: the settings, the backbone, the trained model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate.utils import set_seed
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lora2.common.errors import UserError
from lora2.config.initial import is_adapter
from lora2.config.schema import RunConfig
from lora2.config.task import load_data, task_of
from lora2.models.backbone import load_model, quiet_transformers
from lora2.models.checksum import weights_hash
from lora2.models.methods.base import Method
from lora2.models.methods.build import build
from lora2.models.tokenizer import load_tokenizer
from lora2.runs.finished import finished_run
from lora2.runs.initial import find_source
from lora2.runs.record import RunRecord

Which = Literal["best", "last"]


@dataclass(frozen=True)
class SavedRun:
    """Record and settings of a run, and its trained parameters by name as they were at the `which` evaluation."""

    record: RunRecord
    cfg: RunConfig
    which: Which
    weights: dict[str, Tensor]


def open_run(run: str, which: Which, results: Path, outputs: Path | None = None) -> SavedRun:
    """Read a run's record and weights.

    Args:
        run: a run id, or the path of a record.
        results: the folder that holds runs/.
        outputs: the folder that holds <run_id>/; the record's own output_dir if None.

    Raises:
        UserError: no such run, not a finished one, or a file that is missing or damaged.
    """
    record, cfg = finished_run(run, results)
    folder = Path(cfg.output_dir) if outputs is None else outputs
    weights = _read_weights(folder / record.run_id / f"{which}.safetensors")
    return SavedRun(record=record, cfg=cfg, which=which, weights=weights)


def backbone(saved: SavedRun) -> PreTrainedModel:
    """Build the model as it was before the method was applied, its head untrained; in evaluation mode, labels named.

    Raises:
        UserError: its weights cannot be had.
    """
    cfg, task = saved.cfg, task_of(saved.cfg)
    set_seed(cfg.seed)  # random weights come from it
    quiet_transformers()  # it would report the head as new, whose weights come from the run
    model = load_model(cfg.model, task.num_labels, cfg.recipe.cls_dropout)
    if task.is_regression:
        model.config.problem_type = "regression"
    else:
        model.config.id2label = dict(enumerate(task.label_names))
        model.config.label2id = {name: index for index, name in enumerate(task.label_names)}
    model.eval()
    return model


@torch.no_grad()
def trained_model(saved: SavedRun) -> tuple[PreTrainedModel, Method]:
    """Build the model with its method and trained weights, in evaluation mode.

    Raises:
        UserError: the backbone is not that of the run, or the weights file does not hold what this run trained.
    """
    model = backbone(saved)
    unpruned = saved.cfg.model_copy(update={"budget": None})  # what was pruned is zero in the weights
    method = build(model, unpruned, saved.record.steps)
    _check_backbone(saved, model)
    trained = {name: p for group in method.groups for name, p in group.parameters.items()}
    _check_weights(f"{saved.record.run_id}, {saved.which}.safetensors", saved.weights, trained)
    for name, parameter in trained.items():
        parameter.copy_(saved.weights[name])
    model.eval()
    return model, method


@torch.no_grad()
def start_from_source(model: nn.Module, method: Method, cfg: RunConfig) -> None:
    """Give the adapter the values of the best evaluation of the run that `init_from` names; the head stays fresh.

    Λ is among them: where that run pruned a singular value, this one starts with a zero. It counts in a new budget's
    b_0 like any other, its importance starts at zero too (Λ times its gradient), and it grows again if its gradient
    says so before the budget shrinks; without a budget it is free from the first step on.

    Args:
        model: with its method applied.
        method: of LoRA or LoRA².
        cfg: the settings of the run that starts.

    Raises:
        UserError: as find_source; the backbone is another one; or the file is damaged.
    """
    source = find_source(cfg)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if weights_hash(model, frozen) != source.frozen_weights:
        raise UserError(
            f"init_from: {source.run_id} was trained on another backbone than model={cfg.model.name} with "
            f"seed={cfg.seed} gives (hashes.frozen_weights of its record differs); give the same one: model.path=DIR"
        )
    trained = {name: p for group in method.groups for name, p in group.parameters.items() if is_adapter(name)}
    stored = {name: x for name, x in _read_weights(source.path).items() if is_adapter(name)}
    _check_weights(f"init_from={cfg.init_from}", stored, trained)
    for name, parameter in trained.items():
        parameter.copy_(stored[name])


def tokenizer(saved: SavedRun) -> PreTrainedTokenizerBase:
    """Load the run's tokenizer; that of random weights is made again from the task's data."""
    cfg = saved.cfg
    return load_tokenizer(cfg.model, load_data(cfg) if cfg.model.random_init else None)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file, as weights stay on the machine of the run; give the folder that holds them: "
            f"--outputs DIR, or run it again with force=true"
        ) from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged ({error}); restore the whole file, or run it again with force=true") from None


def _check_backbone(saved: SavedRun, model: nn.Module) -> None:
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if weights_hash(model, frozen) != saved.record.hashes.get("frozen_weights"):
        random = saved.cfg.model.random_init
        source = "this version of torch makes" if random else "model.path, package or hub gives"
        raise UserError(
            f"{saved.record.run_id}: the backbone that {source} is not the one the run was trained on "
            f"(hashes.frozen_weights differs); restore that one, or train again"
        )


def _check_weights(where: str, stored: dict[str, Tensor], trained: dict[str, nn.Parameter]) -> None:
    if odd := sorted(trained.keys() ^ stored.keys()):
        missing = "lacks" if odd[0] in trained else "has an unknown"
        raise UserError(
            f"{where}: {missing} {odd[0]} ({len(odd)} names differ); it must hold the names that this run trained: "
            f"run it again with force=true"
        )
    for name, parameter in trained.items():
        tensor = stored[name]
        if tensor.shape != parameter.shape or not bool(torch.isfinite(tensor).all()):
            raise UserError(
                f"{where}: {name} should be {tuple(parameter.shape)} finite numbers, the file has "
                f"{tuple(tensor.shape)} or some that are not finite: run it again with force=true"
            )
