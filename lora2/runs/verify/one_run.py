"""Verify one run: export it, ask the process without lora2, compare with what lora2 computes and has recorded."""

import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lora2.common.errors import UserError
from lora2.config.schema import FilesDataConfig, GlueDataConfig, RunConfig
from lora2.config.task import load_data
from lora2.glue.raw import RawTask
from lora2.glue.tasks import TASKS
from lora2.glue.tokens import TokenisedSplit, tokenise
from lora2.models.backbone import quiet_transformers
from lora2.models.logits import Logits
from lora2.runs.record import RunRecord, Verification
from lora2.runs.restore import open_run, tokenizer, trained_model
from lora2.runs.verify.candidate import Candidate
from lora2.runs.verify.compare import Comparison, SplitLogits, compare
from lora2.runs.verify.job import DEVICE, own_logits, write_job
from lora2.runs.verify.worker import OutsideProcess, Rederived


def verify_run(candidate: Candidate, outside: OutsideProcess, data_dir: Path | None) -> Verification:
    """Have the score of a run re-derived by stock libraries, and judge the record by it.

    Args:
        candidate: the run, and which of its weights.
        outside: the process without lora2.
        data_dir: the official GLUE download, if it has moved since the run.

    Raises:
        UserError: its data or its weights are not what they were, or cannot be had.
    """
    quiet_transformers()
    if isinstance(candidate.cfg.data, FilesDataConfig):
        raise UserError(
            f"data: {candidate.record.run_id} is about files of its own (data=files); choose a run of one of GLUE's "
            f"tasks, whose data and metrics stock libraries know"
        )
    cfg = _with_data(candidate.cfg, data_dir)
    raw = _read_data(candidate.record, cfg)
    outputs = candidate.weights.parent.parent
    saved = replace(open_run(str(candidate.path), candidate.which, candidate.path.parent.parent, outputs), cfg=cfg)
    model, method = trained_model(saved)
    words = tokenizer(saved)
    splits = tokenise(raw, words, cfg.recipe.max_length, outputs / "tokens")
    with tempfile.TemporaryDirectory(prefix="lora2-verify-") as scratch:
        form = write_job(saved, model, raw, Path(scratch))
        answer = outside.ask(Path(scratch))
    if isinstance(answer, str):
        comparison, metrics, packages = Comparison(problems=(f"stock libraries raised {answer}",)), {}, {}
    else:
        own = own_logits(model, method, cfg, splits, int(words.pad_token_id or 0))
        views = {name: _view(splits[name], own[name], name, answer) for name in own}
        comparison = compare(TASKS[cfg.task], views, answer.scores, candidate.recorded)
        metrics, packages = answer.scores, answer.packages
    return Verification(
        passed=not comparison.problems,
        which=candidate.which,
        form=form,
        metrics=metrics,
        recorded=candidate.recorded,
        packages=packages,
        device=DEVICE,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        **asdict(comparison),
    )


def _view(split: TokenisedSplit, own: tuple[Logits, Logits], name: str, answer: Rederived) -> SplitLogits:
    """What the ways of computing say about a dev split."""
    assert split.labels is not None  # of a dev split
    return SplitLogits(
        ours=own[0],
        replayed=own[1],
        theirs=answer.logits[name],
        labels=split.labels,
        their_labels=np.array(answer.labels[name]).astype(split.labels.dtype),
    )


def _with_data(cfg: RunConfig, data_dir: Path | None) -> RunConfig:
    """The settings, with the official download where it is now."""
    if data_dir is None or cfg.data.source in ("demo", "files"):  # made anew, and a place of its own
        return cfg
    return cfg.model_copy(update={"data": GlueDataConfig(source="local", dir=str(data_dir))})


def _read_data(record: RunRecord, cfg: RunConfig) -> RawTask:
    """The task's data.

    Raises:
        UserError: it is not the run's, or rows of it were left out, over which a stock reader stumbles.
    """
    raw = load_data(cfg)
    if raw.has_dropped_rows:
        raise UserError(
            "data.on_bad_row: rows of its data could not be read and were dropped, which stock readers do not do; "
            "mend the files and train again"
        )
    if raw.fingerprint != record.hashes.get("data"):
        place = getattr(cfg.data, "dir", None) or cfg.data.source
        raise UserError(
            f"data: {place} does not hold the data that it was trained on (hashes.data "
            f"differs); give that data with --data-dir DIR, or train again"
        )
    return raw
