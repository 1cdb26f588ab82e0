"""A task's data as the trainer takes it: tokenised, with a slice held out where the settings ask for one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora2.config.schema import RecipeConfig, RunConfig
from lora2.glue.batches import BatchSampler
from lora2.glue.heldout import HELDOUT, hold_out
from lora2.glue.loader import StepDataset
from lora2.glue.raw import RawTask
from lora2.glue.tasks import TaskSpec
from lora2.glue.tokens import TokenisedSplit, tokenise
from lora2.models.tokenizer import load_tokenizer

GPU_WIDTHS = 8  # its matrix units take 16-bit numbers by eights


@dataclass(frozen=True)
class TaskData:
    """A task, tokenised.

    Attributes:
        splits: "train" and the task's dev splits; a "heldout" one, if there, chooses the best checkpoint.
        pad_id: the tokenizer's padding id.
    """

    task: TaskSpec
    splits: Mapping[str, TokenisedSplit]
    pad_id: int


def load_task_data(cfg: RunConfig, raw: RawTask) -> TaskData:
    """Tokenise a task for the configured model, or read what an earlier call left in output_dir.

    Raises:
        UserError: the tokenizer's files are not to be had.
    """
    tokenizer = load_tokenizer(cfg.model, raw)
    splits = tokenise(raw, tokenizer, cfg.recipe.max_length, Path(cfg.output_dir) / "tokens")
    if cfg.selection == "heldout":
        splits["train"], splits[HELDOUT] = hold_out(splits["train"], cfg.seed)
    return TaskData(task=raw.spec, splits=splits, pad_id=int(tokenizer.pad_token_id or 0))


def train_batches(
    data: TaskData, recipe: RecipeConfig, seed: int, *, device: str, rank: int = 0, world: int = 1
) -> StepDataset:
    """Return the batches of a run, by the number of the step.

    Args:
        seed: decides their order.
        device: the type of the device that they are for, which decides their widths.
        rank, world: the process that they are for, and the number of processes.
    """
    train = data.splits["train"]
    return StepDataset(
        split=train,
        sampler=BatchSampler(train.lengths, recipe.batch_size, seed=seed, group_by_length=recipe.group_by_length),
        pad_id=data.pad_id,
        max_length=recipe.padded_to,
        rank=rank,
        world=world,
        accumulation=recipe.accumulation,
        pad_to_multiple=width_multiple(device),
        at_most=recipe.max_length,
    )


def width_multiple(device: str) -> int:
    """Return what the widths of batches are multiples of on a type of device.

    On a GPU there are few widths then, and a captured step for each; a CPU pays for every position of padding.
    """
    return GPU_WIDTHS if device == "cuda" else 1
