"""Read GLUE from the Hugging Face hub at a pinned revision, and from the hub's cache when there is no network.

A download of the snapshot followed by `load_dataset(<folder>)` is the one route that works alike online, from a warm
cache and on a machine that was handed the cache. Loading by repository id looks into another cache, and fails where
only the snapshot is there.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download

from lora2.common.errors import UserError
from lora2.common.hub_snapshot import PROBE_SECONDS, unreachable
from lora2.glue.raw import RawSplit
from lora2.glue.tasks import TaskSpec

REPOSITORY = "nyu-mll/glue"
REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"

_CURE = (
    "Use data=local data.dir=DIR with the official GLUE download, or data=demo for synthetic data, "
    "or fill the cache once on a machine with a network and copy it here."
)


def read_splits(task: TaskSpec, names: tuple[str, ...]) -> dict[str, RawSplit]:
    """Read the named splits of `task`, which are downloaded once and then come from the hub's cache.

    Args:
        task: what to read.
        names: of the splits, as on the hub.

    Returns:
        The splits by name.

    Raises:
        UserError: they are not in the cache and the hub cannot be reached (known within `PROBE_SECONDS`), or the copy
            has not the expected content.
    """
    folder = snapshot(task, names)
    import datasets  # Its import takes 2 s, which local data, demo data and an error do not need.

    try:
        loaded = datasets.load_dataset(str(folder), task.name)
        return {name: _split(task, loaded[name], name) for name in names}
    except Exception as error:  # datasets and pyarrow raise many kinds, all about this folder
        raise UserError(
            f"data=hub: the copy of {REPOSITORY} in {folder} cannot be read as {task.name} with the splits "
            f"{', '.join(names)} ({type(error).__name__}: {error}). Delete that folder to download it again. {_CURE}"
        ) from error


def snapshot(task: TaskSpec, names: tuple[str, ...]) -> Path:
    """Return the folder of the pinned revision, with these splits of `task`; it is downloaded if need be.

    Raises:
        UserError: it is not in the cache and cannot be downloaded.
    """
    return _cached(task, names) or _downloaded(task)


def _split(task: TaskSpec, columns: Any, name: str) -> RawSplit:
    texts = tuple(list(columns[column]) for column in task.text_columns)
    labels = None if name in task.test_splits else [float(label) for label in columns["label"]]
    return RawSplit(texts, labels)


def _snapshot(task: TaskSpec, *, local_files_only: bool) -> Path:
    # README.md carries the block that names the configurations and their split files.
    return Path(
        snapshot_download(
            REPOSITORY,
            repo_type="dataset",
            revision=REVISION,
            allow_patterns=[f"{task.name}/*", "README.md"],
            local_files_only=local_files_only,
        )
    )


def _cached(task: TaskSpec, names: tuple[str, ...]) -> Path | None:
    """Return the snapshot in the cache if it has the README and a file for each split.

    An interrupted download lacks some of them, and so does another task's.
    """
    try:
        folder = _snapshot(task, local_files_only=True)
    except OSError:
        return None
    complete = all(any((folder / task.name).glob(f"{name}-*.parquet")) for name in names)
    return folder if complete and (folder / "README.md").is_file() else None


def _downloaded(task: TaskSpec) -> Path:
    problem = _probe(PROBE_SECONDS)
    if problem is not None:
        raise UserError(
            f"data=hub: {REPOSITORY} ({task.name}) is not in the cache and the hub is out of reach ({problem}). {_CURE}"
        )
    try:
        return _snapshot(task, local_files_only=False)
    except Exception as error:  # The hub's client has changed its HTTP library, and its exceptions, more than once.
        raise UserError(
            f"data=hub: the download of {REPOSITORY} ({task.name}) failed ({type(error).__name__}: {error}). "
            f"Start again: finished files are kept. {_CURE}"
        ) from error


def _probe(seconds: float) -> str | None:
    """Return why the hub cannot be asked for the repository, or None if it can."""
    return unreachable(lambda: HfApi().dataset_info(REPOSITORY, revision=REVISION, timeout=seconds), seconds)
