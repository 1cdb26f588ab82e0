"""A trained LoRA² run, taken away: written as a folder that stock libraries load, and uploaded if asked."""

from pathlib import Path
from typing import Literal

from lora2.common.errors import UserError
from lora2.common.voice import say
from lora2.runs.finished import finished_run, require_exportable


def publish_run(
    run: str,
    form: Literal["lora", "merged"],
    *,
    which: Literal["best", "last"],
    results: Path,
    outputs: Path | None,
    output: Path | None,
    repository: str | None,
) -> int:
    """Write the folder and print its path.

    Args:
        run: a run id, or the path of a record.
        form: an adapter for peft, or a whole model for transformers.
        which: the weights of the best or the last evaluation.
        results: the folder with runs/.
        outputs: the folder with RUN/best.safetensors; None: what the run was given.
        output: the folder to write; None: OUTPUTS/RUN/export/FORM-WHICH.
        repository: also upload to this hub repository, made private if it is new.

    Returns:
        0 done, 1 the hub refused the upload.

    Raises:
        UserError: no such run, one that cannot be exported, or an upload that the hub would refuse.
    """
    if repository:
        _check_repository(repository)
    record, _ = finished_run(run, results)  # a mistake is told before torch is imported
    require_exportable(record)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    from lora2.runs.export.folder import export_run
    from lora2.runs.restore import open_run

    saved = open_run(run, which, results, outputs)
    own = outputs or Path(saved.cfg.output_dir)
    folder = output or own / saved.record.run_id / "export" / f"{form}-{which}"
    exported = export_run(saved, form, folder)
    kept = sum(rank > 0 for rank in exported.ranks.values())
    say(
        f"{saved.record.run_id}: {kept} of {len(exported.ranks)} matrices still have a rank; loaded back, logits "
        f"differ by {exported.difference:.1e} of the largest"
    )
    print(folder)
    return _push(folder, repository) if repository else 0


def _check_repository(name: str) -> None:
    """Refuse a name that the hub would refuse, and an upload without a login, before any work is done."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"--push: got {name!r}; {error}; give USER/NAME: --push me/my-adapter") from None
    if get_token() is None:
        raise UserError("--push: no login at the hub; run `hf auth login` as one who may write, or set HF_TOKEN")


def _push(folder: Path, name: str) -> int:
    """Upload under the login that is stored, and print the page's address; 1 if the hub refused."""
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        hub.create_repo(name, private=True, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder)
    except Exception as error:  # of the hub's and the network's many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        say(f"error: --push: {folder} is written but not uploaded ({reason})")
        return 1
    print(f"https://huggingface.co/{name}")
    return 0
