"""Test-set predictions of a finished run, as the GLUE server wants them: one file for each test split of its task."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lora2.common.errors import UserError
from lora2.common.terminal import say
from lora2.runs.finished import finished_run

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lora2.runs.restore import SavedRun


def publish_submission(
    run: str,
    *,
    which: Literal["best", "last"],
    results: Path,
    outputs: Path | None,
    output: Path,
    data_dir: Path | None,
) -> None:
    """Rebuild the model, predict, write the files into the folder `output` and print their paths.

    Zip those of all tasks together for the server, which takes a prediction for every task.

    Args:
        run: a run id, or the path of a record.
        which: the weights of the best or the last evaluation.
        results: the folder with runs/.
        outputs: the folder with RUN/best.safetensors; None: what the run was given.
        output: the folder for the files.
        data_dir: the official GLUE download, if it has moved since the run.

    Raises:
        UserError: no such run, no test set, or one of another size.
    """
    record, cfg = finished_run(run, results)  # a mistake is told before torch is imported
    if data_dir is None and cfg.data.source == "demo":
        raise UserError(
            f"{record.run_id}: synthetic data has no test set on the server; allowed is the official download: "
            f"give --data-dir DIR"
        )
    from lora2.glue.submission import write_submission
    from lora2.glue.tasks import TASKS
    from lora2.runs.restore import open_run

    saved = open_run(run, which, results, outputs)
    predictions = _predictions(saved, data_dir)
    try:
        paths = write_submission(TASKS[saved.cfg.task], predictions, output)
    except ValueError as error:  # a test file of another size
        raise UserError(str(error)) from None
    print(*paths, sep="\n")
    if saved.record.synthetic:
        say("note: trained on synthetic data; the server's score of these files means nothing")


def _predictions(saved: "SavedRun", data_dir: Path | None) -> "dict[str, npt.NDArray[np.float32]]":
    """Class ids or scores (n,) of every test split, in the order of the file."""
    from lora2.glue.data import load_raw
    from lora2.glue.metrics import predict
    from lora2.glue.raw import RawTask
    from lora2.glue.tasks import TASKS
    from lora2.glue.tokens import tokenise
    from lora2.models.logits import compute_logits
    from lora2.runs.restore import tokenizer, trained_model

    cfg, task = saved.cfg, TASKS[saved.cfg.task]
    folder = data_dir or (None if cfg.data.dir is None else Path(cfg.data.dir))
    raw = load_raw(cfg.task, "local" if data_dir else cfg.data.source, folder, include_test=True)
    only_tests = RawTask(
        task=raw.task,
        splits={name: raw.splits[name] for name in task.test_splits},
        source=raw.source,
        synthetic=raw.synthetic,
        fingerprint=raw.fingerprint,
        warnings=raw.warnings,
    )
    words = tokenizer(saved)
    splits = tokenise(only_tests, words, cfg.recipe.max_length, Path(cfg.output_dir) / "tokens")
    model, method = trained_model(saved)
    pad_id = int(words.pad_token_id or 0)
    with method.merged():
        return {
            name: predict(task, compute_logits(model, split, batch_size=cfg.recipe.batch_size, pad_id=pad_id))
            for name, split in splits.items()
        }
