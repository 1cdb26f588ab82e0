"""From settings to a trainer that is ready to fit: the same for a run, for the benchmark and for tests."""

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import set_seed

from lora2.common.errors import UserError
from lora2.config.schema import RunConfig
from lora2.models.backbone import load_model
from lora2.models.methods.build import build
from lora2.runs.restore import start_from_source
from lora2.training.captured.forward import make_capturable
from lora2.training.data import TaskData
from lora2.training.loop import RunControl, Trainer


def build_accelerator(precision: str, tracker: str | None = None, folder: str | None = None) -> Accelerator:
    """Return an accelerator for a precision: fp32, bf16 or fp16. The one made before it can no longer be used.

    Args:
        tracker: accelerate's name of it; None for none.
        folder: where the tracker writes.

    Raises:
        UserError: fp16 without a GPU, which accelerate would replace by float32 without a word.
    """
    # an earlier run in this process may have had another precision
    AcceleratorState._reset_state(reset_partial_state=False)
    GradientState._reset_state()
    # without cpu=True, accelerate would run the processes of a CPU torchrun apart from each other
    cpu = not torch.cuda.is_available()
    if cpu and precision == "fp16":
        raise UserError("recipe.precision: fp16 needs a GPU, here is none; use fp32 or bf16: recipe.precision=bf16")
    if not cpu:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # else its products are not the same every time
    mixed = "no" if precision == "fp32" else precision
    return Accelerator(mixed_precision=mixed, log_with=tracker, project_dir=folder, cpu=cpu)


def build_trainer(
    cfg: RunConfig, data: TaskData, accelerator: Accelerator, control: RunControl | None = None
) -> Trainer:
    """Load the model, apply the method, and return their trainer.

    Args:
        cfg: its budget, if any, fits the run's steps.
        data: as `load_task_data` returns it for `cfg`.
        control: how the run is kept, stopped and watched; None for none of these.

    Raises:
        UserError: the model's weights are not to be had, or not those of the adapter that it is to start from.
    """
    set_seed(cfg.seed)
    model = load_model(cfg.model, data.task.num_labels, cfg.recipe.cls_dropout)
    if accelerator.device.type == "cuda":
        make_capturable(model)
    torch.nn.Module.to(model, accelerator.device)  # before the method, whose state lives where the weights do
    method = build(model, cfg, cfg.recipe.total_steps(len(data.splits["train"])))
    if cfg.init_from is not None:
        start_from_source(model, method, cfg)
    return Trainer(
        accelerator=accelerator,
        model=model,
        method=method,
        data=data,
        recipe=cfg.recipe,
        seed=cfg.seed,
        num_workers=cfg.num_workers,
        step=cfg.step,
        deterministic=accelerator.device.type == "cuda" and cfg.deterministic is not False,
        control=control or RunControl(),
    )
