"""Why a job would be refused, and how many steps it has: known before any job of a sweep starts; no torch."""

from lora2.common.errors import UserError
from lora2.config.schedule import settle_budget
from lora2.config.schema import DataConfig, RunConfig
from lora2.config.task import load_data
from lora2.experiments.cost.lengths import lengths, measured_path
from lora2.glue.heldout import train_size
from lora2.glue.tasks import TASKS
from lora2.models.weights import weight_source
from lora2.training.environment import check_environment

ROWS: dict[tuple[str, DataConfig], int | str] = {}  # examples of train, or why they cannot be read


def refusal(cfg: RunConfig) -> str | None:
    """Say why the run would end with exit code 2, as far as that is known before torch is imported; None: it starts.

    Nothing is fetched: data and weights on the hub are taken to be as they should be.
    """
    try:
        check_environment(cfg.tracker.name)
        settle_budget(cfg, train_size(_train_rows(cfg), cfg.selection))
        if not cfg.model.random_init and (cfg.model.path is not None or cfg.model.package is not None):
            _check_weights(cfg)
    except UserError as error:
        return str(error)
    return None


def steps_of(cfg: RunConfig) -> int:
    """Count the optimizer steps of a run.

    Raises:
        UserError: its data cannot be read.
    """
    return cfg.recipe.total_steps(train_size(_train_rows(cfg), cfg.selection))


def _train_rows(cfg: RunConfig) -> int:
    """Examples of the train split: the official number on the hub, else counted, once for each task."""
    if cfg.data.source == "hub":
        return TASKS[cfg.task].rows["train"]
    if measured_path(cfg).is_file():
        return len(lengths(cfg).train)
    key = (cfg.task, cfg.data)
    if key not in ROWS:
        try:
            ROWS[key] = len(load_data(cfg).splits["train"])
        except UserError as error:
            ROWS[key] = str(error)
    found = ROWS[key]
    if isinstance(found, str):
        raise UserError(found)
    return found


WEIGHTS: dict[str, str | None] = {}  # what was found, by model


def _check_weights(cfg: RunConfig) -> None:
    """Refuse weights that are not at hand; each model's are looked at once."""
    key = cfg.model.model_dump_json()
    if key not in WEIGHTS:
        try:
            weight_source(cfg.model)
            WEIGHTS[key] = None
        except UserError as error:
            WEIGHTS[key] = str(error)
    if (found := WEIGHTS[key]) is not None:
        raise UserError(found)
