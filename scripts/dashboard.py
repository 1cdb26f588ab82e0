"""The W&B dashboard as code: `python scripts/dashboard.py [--push --entity ME] [--project lora2-glue]`.

Writes a workspace and a report as JSON, with no account and no network; --push also saves both on the server, under the
key that `wandb login` has stored. Exit codes: 0 done, 1 the server refused, 2 a mistake of the user's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.common.errors import UserError
from lora2.common.rendering import write_text
from lora2.common.terminal import guarded, say
from lora2.common.wandb_key import has_wandb_key
from lora2.runs.reader import load_runs

ROOT = Path(__file__).resolve().parents[1]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="A W&B workspace and report of all runs, as JSON or on the server.")
    cli.add_argument("--results", type=Path, default=ROOT / "results", help="folder with runs/ and paper/")
    cli.add_argument("--output", type=Path, default=Path("outputs/dashboard"), help="folder for the two JSON files")
    cli.add_argument("--project", default="lora2-glue", help="the W&B project that the runs were logged to")
    cli.add_argument("--entity", default="", help="the W&B user or team of the project; needed by --push")
    cli.add_argument("--push", action="store_true", help="save both on the server; needs a key")
    return cli


def run(args: argparse.Namespace) -> int:
    """Build, write, push."""
    check(args)
    from lora2.analysis.dashboard import as_json, wandb_report, wandb_workspace

    runs, warnings = load_runs(args.results / "runs")
    for warning in warnings:
        say(f"warning: {warning}")
    built = {
        "workspace": wandb_workspace(args.entity, args.project),
        "report": wandb_report(args.entity, args.project, runs, args.results / "paper"),
    }
    for name, thing in built.items():
        path = args.output / f"{name}.json"
        write_text(path, json.dumps(as_json(thing), indent=1, ensure_ascii=False) + "\n")
        print(path)
    return push(built) if args.push else 0


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is built."""
    if not (args.results / "paper").is_dir():
        raise UserError(f"--results: no folder {args.results / 'paper'}; it holds the paper's numbers")
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError("wandb-workspaces is not installed; pip install -e '.[dashboards]'")
    if args.push and not has_wandb_key():
        raise UserError("--push: no W&B key here; run `wandb login`, or set WANDB_API_KEY")
    if args.push and not args.entity:
        raise UserError("--push: needs --entity NAME, the W&B user or team of the project")


def push(built: dict[str, Any]) -> int:
    """Save on the server; the addresses go to standard output."""
    for name, thing in built.items():
        try:
            print(thing.save().url)
        except Exception as error:  # of wandb's many kinds: no right, no such project, no network
            say(f"error: --push: the {name} is not saved ({type(error).__name__}: {error}); its JSON is written")
            return 1
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
