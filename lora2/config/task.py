"""What a run is about: its task, and its texts and labels, from its settings."""

from lora2.config.schema import FilesDataConfig, RunConfig
from lora2.glue.data import load_raw
from lora2.glue.own import own_spec, read_own
from lora2.glue.raw import RawTask
from lora2.glue.tasks import TASKS, TaskSpec


def task_of(cfg: RunConfig) -> TaskSpec:
    """Return the run's task. That of one's own files is known once a run has filled in the labels it found."""
    if isinstance(cfg.data, FilesDataConfig):
        return own_spec(cfg.data.files, cfg.data.labels or ())
    return TASKS[cfg.task]


def load_data(cfg: RunConfig) -> RawTask:
    """Read the run's texts and labels.

    Raises:
        UserError: they cannot be had, or are not what they should be.
    """
    if isinstance(cfg.data, FilesDataConfig):
        return read_own(cfg.data.files)
    return load_raw(cfg.task, cfg.data.source, cfg.data.folder, on_bad_row=cfg.data.on_bad_row)


def with_labels(cfg: RunConfig, raw: RawTask) -> RunConfig:
    """Return the settings with the labels that one's own files hold, so that the record tells them."""
    if not isinstance(cfg.data, FilesDataConfig):
        return cfg
    return cfg.model_copy(update={"data": cfg.data.model_copy(update={"labels": raw.spec.label_names})})
