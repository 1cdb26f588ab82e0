"""A run's own method on its own backbone, ready to be timed."""

from accelerate import Accelerator

from lora2.config.schema import RunConfig
from lora2.experiments.bench.measure import RATE, Runner
from lora2.training.build import build_trainer
from lora2.training.data import TaskData


def configured_runner(cfg: RunConfig, data: TaskData, accelerator: Accelerator) -> Runner:
    """Build the trainer of a config whose budget fits its steps, and return a runner of its step."""
    trainer = build_trainer(cfg, data, accelerator)
    train_step = trainer.build_step()
    for group in train_step.optimizer.param_groups:
        group["lr"] = RATE
    return Runner(train_step, accelerator, trainer.method)
