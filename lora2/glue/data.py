"""Load GLUE texts and labels from any source: the hub, the official download on disk, or synthetic demo data."""

from collections.abc import Mapping
from pathlib import Path

from lora2.common.errors import UserError
from lora2.glue import demo, hub, local
from lora2.glue.local import OnBadRow
from lora2.glue.raw import RawSplit, RawTask, fingerprint
from lora2.glue.tasks import TaskSpec, get_task

__all__ = ["SOURCES", "RawSplit", "RawTask", "load_raw"]

SOURCES = ("hub", "local", "demo")


def load_raw(
    task: str,
    source: str,
    data_dir: Path | None,
    *,
    include_test: bool = False,
    on_bad_row: OnBadRow = "refuse",
    seed: int = 0,
) -> RawTask:
    """Read one GLUE task.

    Args:
        task: a name in `TASKS`.
        source: `hub` (nyu-mll/glue at a pinned revision), `local` (the official TSV layout under `data_dir`) or `demo`
            (made here).
        data_dir: the folder that holds `CoLA/`, `MRPC/` …; read by `local` only.
        include_test: also read the test splits; their labels are always None.
        on_bad_row: "drop" leaves out rows of train and dev that cannot be read, and the warnings say so; `local` only.
        seed: of the demo data; the other sources do not depend on it.

    Raises:
        UserError: unknown task or source, no `data_dir`, no network, or a file that is not what it should be.
    """
    spec = get_task(task)
    names = ("train", *spec.dev_splits, *(spec.test_splits if include_test else ()))
    splits, warnings = _read(spec, source, data_dir, names, on_bad_row, seed)
    return RawTask(
        spec=spec,
        splits=splits,
        source=source,
        synthetic=source == "demo",
        fingerprint=fingerprint(spec, splits),
        warnings=() if source == "demo" else (*_count_warnings(spec, splits), *warnings),
    )


def _read(
    task: TaskSpec, source: str, data_dir: Path | None, names: tuple[str, ...], on_bad_row: OnBadRow, seed: int
) -> tuple[dict[str, RawSplit], tuple[str, ...]]:
    """The splits, and what the source says about them."""
    match source:
        case "hub":
            return hub.read_splits(task, names), ()
        case "local":
            if data_dir is None:
                raise UserError(
                    "data.dir: not set, but data=local reads the official GLUE files from it. "
                    "Set data.dir to the folder that holds CoLA/, MRPC/ and so on, or use data=hub or data=demo."
                )
            return local.read_splits(task, data_dir, names, on_bad_row)
        case "demo":
            return demo.make_splits(task, names, seed), ()
    raise UserError(f"data: got {source!r}; choose one of {', '.join(SOURCES)}, for example data=demo.")


def _count_warnings(task: TaskSpec, splits: Mapping[str, RawSplit]) -> tuple[str, ...]:
    """One sentence per split whose number of rows is not the official one."""
    return tuple(
        f"{task.name}/{name}: {len(split)} rows, officially {task.rows[name]}; "
        "scores will not be comparable with the paper's."
        for name, split in splits.items()
        if len(split) != task.rows[name]
    )
