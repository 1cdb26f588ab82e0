"""Test-set predictions of a finished run, as the GLUE server wants them: one file for each test split of its task."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lora2.common.errors import UserError
from lora2.common.voice import say
from lora2.runs.caveats import CAVEATS, caveats_of
from lora2.runs.finished import finished_run

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lora2.config.schema import RunConfig
    from lora2.glue.raw import RawTask
    from lora2.runs.restore import SavedRun


def publish_submission(
    run: str,
    *,
    which: Literal["best", "last"],
    results: Path,
    outputs: Path | None,
    output: Path | None,
    data_dir: Path | None,
) -> None:
    """Rebuild the model, predict, write the files and print their paths.

    Zip those of all tasks together for the server, which takes a prediction for every task.

    Args:
        run: a run id, or the path of a record.
        which: the weights of the best or the last evaluation.
        results: the folder with runs/.
        outputs: the folder with RUN/best.safetensors; None: what the run was given.
        output: a folder for the files, in which none is replaced; None: outputs/submission/RUN/WHICH, which is written
            anew.
        data_dir: the official GLUE download, if it has moved since the run.

    Raises:
        UserError: no such run, no test set, one of another size or with a wrong index, or a file is there already.
    """
    record, cfg = finished_run(run, results)  # a mistake is told before torch is imported
    if data_dir is None and cfg.data.source == "demo":
        raise UserError(
            f"{record.run_id}: synthetic data has no test set on the server; give the official download: --data-dir DIR"
        )
    if cfg.data.source == "files":
        raise UserError(
            f"{record.run_id}: {cfg.task} is a task of your own, and the server scores GLUE's alone; choose a run "
            f"of one of them: task=rte"
        )
    from lora2.glue.submission import submission_files, write_submission
    from lora2.glue.tasks import TASKS

    task = TASKS[cfg.task]
    if output is None:
        output = Path("outputs/submission") / record.run_id / which
    else:
        _refuse_to_replace(submission_files(task, output).values())
    raw = _read_tests(cfg, data_dir)
    for warning in raw.warnings:
        say(f"note: {warning}")
    from lora2.runs.restore import open_run  # imports torch

    predictions = _predictions(open_run(run, which, results, outputs), raw)
    print(*write_submission(task, predictions, output), sep="\n")
    if kinds := caveats_of(record.model_dump(mode="json")):
        say(f"note: the run is {', '.join(kinds)}: {'; '.join(CAVEATS[kind] for kind in kinds)}")


def _refuse_to_replace(files: Iterable[Path]) -> None:
    for file in files:
        if file.exists():
            raise UserError(
                f"--output: {file} is there already, perhaps of another run; delete it, or give another --output DIR"
            )


def _read_tests(cfg: "RunConfig", data_dir: Path | None) -> "RawTask":
    """The test splits of the run's task, in the order of their index."""
    from lora2.config.schema import GlueDataConfig
    from lora2.glue.data import load_raw
    from lora2.glue.submission import check_rows
    from lora2.glue.tasks import TASKS

    assert isinstance(cfg.data, GlueDataConfig)  # submit has refused others
    source, folder = (cfg.data.source, cfg.data.folder) if data_dir is None else ("local", data_dir)
    raw = load_raw(cfg.task, source, folder, include_test=True, on_bad_row=cfg.data.on_bad_row)
    tests = {name: raw.splits[name] for name in TASKS[cfg.task].test_splits}
    for name, split in tests.items():
        try:
            check_rows(TASKS[cfg.task], name, len(split))
        except ValueError as error:
            raise UserError(f"{error} Download the official test file again, or give --data-dir DIR.") from None
    return replace(raw, splits=tests)


def _predictions(saved: "SavedRun", raw: "RawTask") -> "dict[str, npt.NDArray[np.float32]]":
    """Class ids or scores (n,) of every test split, in the order of its index."""
    from lora2.glue.metrics import predict
    from lora2.glue.tasks import TASKS
    from lora2.glue.tokens import tokenise
    from lora2.models.logits import compute_logits
    from lora2.runs.restore import tokenizer, trained_model

    cfg, task = saved.cfg, TASKS[saved.cfg.task]
    words = tokenizer(saved)
    splits = tokenise(raw, words, cfg.recipe.max_length, Path(cfg.output_dir) / "tokens")
    model, method = trained_model(saved)
    pad_id = int(words.pad_token_id or 0)
    with method.merged():
        return {
            name: predict(task, compute_logits(model, split, batch_size=cfg.recipe.batch_size, pad_id=pad_id))
            for name, split in splits.items()
        }
