"""Verify finished runs: export each, have its score re-derived without lora2, compare, and note that in its record."""

import time
from collections.abc import Sequence
from pathlib import Path

from lora2.common.errors import UserError
from lora2.common.voice import say
from lora2.runs.finished import find_record, finished_run
from lora2.runs.format import Checkpoint
from lora2.runs.lock import sole_owner
from lora2.runs.places import read_places
from lora2.runs.reader import Run
from lora2.runs.record import Verification, note_verification
from lora2.runs.verify.candidate import Candidate
from lora2.runs.verify.forms import FORMS
from lora2.runs.verify.verdict import verification_of


def verify_runs(
    names: Sequence[str],
    *,
    which: Checkpoint,
    places: Sequence[Path],
    outputs: Path | None,
    data_dir: Path | None,
) -> int:
    """Verify runs, one after the other, with a line on each.

    Args:
        names: run ids, or paths of records; none: every run whose weights are here and that is not verified yet.
        which: the weights, and the recorded score, of the best or the last evaluation.
        places: results folders, each with runs/.
        outputs: the folder with RUN/best.safetensors; None: what each run was given.
        data_dir: the official GLUE download, if it has moved since the runs.

    Returns:
        0 if all were verified, 1 if a verification failed, 2 if one could not be made.

    Raises:
        UserError: there is no such run, or one that cannot be verified; known before torch is imported.
    """
    if names:
        chosen = [_candidate(find_record(name, places), which, outputs) for name in names]
    else:
        chosen = _all_candidates(places, which, outputs)
    if not chosen:
        return 0
    from lora2.runs.verify.one_run import verify_run  # imports torch
    from lora2.runs.verify.worker import OutsideProcess

    code = 0
    with OutsideProcess() as outside:
        for number, candidate in enumerate(chosen, start=1):
            before = f"{number}/{len(chosen)} {candidate.record.run_id}"
            started = time.perf_counter()
            try:
                with sole_owner(candidate.weights.parent):
                    result = verify_run(candidate, outside, data_dir)
                    note_verification(candidate.path, result)
            except UserError as error:
                say(f"error: {before}: cannot be verified: {error}")
                code = UserError.exit_code
                continue
            say(f"{before}: {_told(result)}, {time.perf_counter() - started:.0f} s")
            print(candidate.path)
            if not result.passed:
                code = max(code, 1)
    return code


def _candidate(path: Path, which: Checkpoint, outputs: Path | None) -> Candidate:
    """The run of a record.

    Raises:
        UserError: it is not finished, stock libraries know nothing like its method, or its weights are elsewhere.
    """
    record, cfg = finished_run(str(path), path.parent.parent)
    method = record.config.method
    if method not in FORMS:
        raise UserError(
            f"{record.run_id}: no stock library loads its method, {method}, so its score cannot be re-derived; choose "
            f"a run of {', '.join(FORMS)}"
        )
    weights = (Path(cfg.output_dir) if outputs is None else outputs) / record.run_id / f"{which}.safetensors"
    if not weights.is_file():
        raise UserError(
            f"{weights}: no such file, as weights stay on the machine of the run; give the folder that holds them: "
            f"--outputs DIR, or run it again with force=true"
        )
    return Candidate(path=path, record=record, cfg=cfg, weights=weights, which=which)


def _all_candidates(places: Sequence[Path], which: Checkpoint, outputs: Path | None) -> list[Candidate]:
    """Every run that can be verified and is not yet; what is passed over is told."""
    runs = read_places(places)
    waiting = [run for run in runs if not _is_verified(run, which)]
    found, reasons = [], []
    for run in waiting:
        try:
            found.append(_candidate(find_record(run.run_id, places), which, outputs))
        except UserError as error:
            reasons.append(str(error))
    for reason in reasons:
        say(f"left out: {reason}")
    done = len(runs) - len(waiting)
    say(f"{len(runs)} runs: {done} verified already, {len(found)} to verify, {len(reasons)} left out")
    return found


def _is_verified(run: Run, which: Checkpoint) -> bool:
    return run.verified is not None and run.verified["which"] == which and verification_of(run) == "verified"


def _told(result: Verification) -> str:
    """The outcome in a line."""
    shown = ", ".join(
        f"{name} {value:.4f} (recorded {result.recorded[name]:.4f})" for name, value in result.metrics.items()
    )
    if not result.passed:
        return f"verification failed: {'; '.join(result.problems)}"
    return f"verified: {shown}; {result.examples} examples, {result.ties} ties, {result.differing} predictions differ"
