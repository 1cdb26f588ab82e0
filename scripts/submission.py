"""Test-set predictions of a finished run, as the GLUE server wants them: `python scripts/submission.py RUN`.

Writes one file for each test split of the run's task into OUTPUT; zip those of all tasks together for the server, which
takes a prediction for every task. Exit codes: 0 done, 2 a mistake of the user's.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.common.errors import UserError
from lora2.common.terminal import guarded
from lora2.runs.finished import finished_run

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lora2.runs.restore import SavedRun

ROOT = Path(__file__).resolve().parents[1]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Predictions for the GLUE server from a finished run.")
    cli.add_argument("run", metavar="RUN", help="run id (the name of its record in results/runs), or a record's path")
    cli.add_argument("--which", choices=("best", "last"), default="best", help="weights of the best or last evaluation")
    cli.add_argument("--output", type=Path, default=Path("outputs/submission"), help="folder for the files")
    cli.add_argument("--results", type=Path, default=ROOT / "results", help="folder with runs/")
    cli.add_argument("--outputs", type=Path, help="folder with RUN/best.safetensors; default: what the run was given")
    cli.add_argument("--data-dir", type=Path, help="the official GLUE download, if it has moved since the run")
    return cli


def run(args: argparse.Namespace) -> int:
    """Rebuild the model, predict, write."""
    record, cfg = finished_run(args.run, args.results)
    if args.data_dir is None and cfg.data.source == "demo":
        raise UserError(
            f"{record.run_id}: synthetic data has no test set on the server; allowed is the official download: "
            f"give --data-dir DIR"
        )
    from lora2.glue.submission import write_submission  # torch is imported only here, so that --help is quick
    from lora2.glue.tasks import TASKS
    from lora2.runs.restore import open_run

    saved = open_run(args.run, args.which, args.results, args.outputs)
    task = TASKS[saved.cfg.task]
    predictions = predict(saved, args.data_dir)
    try:
        paths = write_submission(task, predictions, args.output)
    except ValueError as error:  # a test file of another size
        raise UserError(str(error)) from None
    print(*paths, sep="\n")
    if saved.record.synthetic:
        print("note: trained on synthetic data; the server's score of these files means nothing", file=sys.stderr)
    return 0


def predict(saved: "SavedRun", data_dir: Path | None) -> "dict[str, npt.NDArray[np.float32]]":
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
    tests = {name: raw.splits[name] for name in task.test_splits}
    only_tests = RawTask(raw.task, tests, raw.source, raw.synthetic, raw.fingerprint, raw.warnings)
    words = tokenizer(saved)
    splits = tokenise(only_tests, words, cfg.recipe.max_length, Path(cfg.output_dir) / "tokens")
    model, method = trained_model(saved)
    pad_id = int(words.pad_token_id or 0)
    with method.merged():
        return {
            name: predict(task, compute_logits(model, split, batch_size=cfg.recipe.batch_size, pad_id=pad_id))
            for name, split in splits.items()
        }


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
