"""Take a trained LoRA² run away: `python scripts/export.py RUN [--format lora|merged] [--which best|last]`.

Writes a folder that stock peft (lora) or stock transformers (merged) loads with none of this project's code, and
prints its path. Exit codes: 0 done, 1 the hub refused --push, 2 a mistake of the user's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.common.errors import UserError
from lora2.common.terminal import guarded, say
from lora2.runs.finished import finished_run, require_lora2

ROOT = Path(__file__).resolve().parents[1]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Export a trained LoRA² run: a stock LoRA adapter, or a merged model.")
    cli.add_argument("run", metavar="RUN", help="run id (the name of its record in results/runs), or a record's path")
    cli.add_argument(
        "--format", choices=("lora", "merged"), default="lora", help="adapter for peft (default), or model"
    )
    cli.add_argument("--which", choices=("best", "last"), default="best", help="weights of the best or last evaluation")
    cli.add_argument("--output", type=Path, help="folder to write; default OUTPUTS/RUN/export/FORMAT-WHICH")
    cli.add_argument("--results", type=Path, default=ROOT / "results", help="folder with runs/")
    cli.add_argument("--outputs", type=Path, help="folder with RUN/best.safetensors; default: what the run was given")
    cli.add_argument("--push", metavar="REPO", help="also upload to this hub repository (made private if it is new)")
    return cli


def run(args: argparse.Namespace) -> int:
    """Read the run, write the folder, push it if asked."""
    if args.push:
        check_repository(args.push)
    record, _ = finished_run(args.run, args.results)  # a mistake is told before torch is imported
    require_lora2(record)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    from lora2.runs.export.folder import export_run
    from lora2.runs.restore import open_run

    saved = open_run(args.run, args.which, args.results, args.outputs)
    outputs = args.outputs or Path(saved.cfg.output_dir)
    folder = args.output or outputs / saved.record.run_id / "export" / f"{args.format}-{args.which}"
    exported = export_run(saved, args.format, folder)
    kept = sum(rank > 0 for rank in exported.ranks.values())
    print(
        f"{saved.record.run_id}: {kept} of {len(exported.ranks)} matrices still have a rank; loaded back, logits "
        f"differ by {exported.difference:.1e} of the largest",
        file=sys.stderr,
    )
    print(folder)
    return push(folder, args.push) if args.push else 0


def check_repository(name: str) -> None:
    """Refuse a name that the hub would refuse, and an upload without a login, before any work is done."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"--push: got {name!r}; {error}; allowed is --push USER/NAME") from None
    if get_token() is None:
        raise UserError(
            "--push: no login at the hub; allowed is one that may write: run `hf auth login`, or set HF_TOKEN"
        )


def push(folder: Path, name: str) -> int:
    """Upload under the login that is stored; prints the page's address. Exit code: 0 done, 1 the hub refused."""
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


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
