"""What a run says before its first step: its name and five lines. Nothing here reads the device."""

from lora2.config.schema import RunConfig
from lora2.core.heads import head_parameters
from lora2.glue.heldout import HELDOUT
from lora2.models.methods.parts import size
from lora2.training.loop import Trainer
from lora2.training.optim import warmup_steps
from lora2.training.recording import device_name
from lora2.training.state import trained_parameters


def opening(run_id: str, cfg: RunConfig, trainer: Trainer, start: int) -> list[str]:
    """Say what the run is, and on what.

    Args:
        start: steps that a checkpoint has already.
    """
    lines = {
        "device": _device(cfg, trainer),
        "data": _data(cfg, trainer),
        "steps": _steps(trainer, start),
        "rate": _rate(trainer),
        "trains": _parameters(trainer),
    }
    return [run_id, *(f"  {name:7} {text}" for name, text in lines.items())]


def _device(cfg: RunConfig, trainer: Trainer) -> str:
    processes = trainer.accelerator.num_processes
    several = f"{processes} processes, " if processes > 1 else ""
    return f"{several}{device_name(trainer.accelerator.device)}; {cfg.recipe.precision}"


def _data(cfg: RunConfig, trainer: Trainer) -> str:
    task, splits = trainer.data.task, trainer.data.splits
    names = ["train", *(name for name in (HELDOUT, *task.dev_splits) if name in splits)]
    rows = ", ".join(f"{len(splits[name]):,} {name}" for name in names)
    return f"{task.title}, data={cfg.data.source}: {rows} rows"


def _steps(trainer: Trainer, start: int) -> str:
    epochs = trainer.total_steps / trainer.steps_of_epoch
    text = f"{trainer.total_steps:,} of {trainer.recipe.batch_size} examples, {epochs:.3g} epochs"
    again = f"; goes on after step {start:,}" if start else ""
    return f"{text}; evaluated every {trainer.eval_every:,}{again}"


def _rate(trainer: Trainer) -> str:
    warmup = warmup_steps(trainer.recipe, trainer.total_steps)
    schedule = f"up over {warmup:,} steps, then linearly down to 0" if warmup else "linearly down to 0"
    scales = sorted({group.lr_scale for group in trainer.method.groups} - {1.0})
    others = "".join(f"; one group at {scale:g} times it" for scale in scales)
    return f"{trainer.recipe.lr:g}, {schedule}{others}"


def _parameters(trainer: Trainer) -> str:
    trained, head_names = trained_parameters(trainer.method), {name for name, _ in head_parameters(trainer.model)}
    head = size({name: p for name, p in trained.items() if name in head_names})
    adapter, whole = size(trained) - head, sum(p.numel() for p in trainer.model.parameters())
    shares = ", ".join(f"{name} {n:,} ({n / whole:.2%})" for name, n in (("adapter", adapter), ("head", head)))
    return f"{shares} of {whole:,} parameters"
