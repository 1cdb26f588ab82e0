"""Take a trained run away.

    python scripts/export.py lora RUN          a folder that stock peft loads, with none of this project's code
    python scripts/export.py merged RUN        the whole model, for stock transformers
    python scripts/export.py submission RUN    predictions for the GLUE server
    python scripts/export.py verify RUN ...    its dev score, re-derived by stock libraries; noted in its record

Each prints what it has written. Exit codes: 0 done, 1 the hub refused --push or a verification failed, 2 a mistake of
the user's.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lora2.common.errors import UserError
from lora2.common.terminal import guarded
from lora2.runs.export.publish import publish_run
from lora2.runs.finished import find_record
from lora2.runs.places import DEMO, OWN, PUBLISHED
from lora2.runs.submission import publish_submission
from lora2.runs.verify.command import verify_runs

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = (OWN, DEMO)  # where the run was started; a verification is noted there, and not in published records
PLACES = (ROOT / PUBLISHED, *WRITTEN)
MOVED = "the official GLUE download, if it has moved since the run"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    description, _, usage = (__doc__ or "").partition("\n")
    cli = argparse.ArgumentParser(
        description=description, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = cli.add_subparsers(dest="form", metavar="COMMAND", required=True)
    for form, help_text in (("lora", "a LoRA adapter for peft"), ("merged", "a whole model for transformers")):
        command = commands.add_parser(form, help=help_text)
        command.set_defaults(run=export)
        _add_run(command)
        command.add_argument("--output", type=Path, help=f"folder to write; default OUTPUTS/RUN/export/{form}-WHICH")
        command.add_argument("--push", metavar="REPO", help="also upload to this hub repository (private if it is new)")
    command = commands.add_parser("submission", help="predictions for the GLUE server")
    command.set_defaults(run=submission)
    _add_run(command)
    command.add_argument("--output", type=Path, help="folder for the files; default outputs/submission/RUN/WHICH")
    command.add_argument("--data-dir", type=Path, help=MOVED)
    _add_verify(commands.add_parser("verify", help="the dev score, re-derived without this project's code"))
    return cli.parse_args(argv)


def export(args: argparse.Namespace) -> int:
    """Write an adapter or a model, and upload it if asked."""
    return publish_run(
        str(_record(args)),
        args.form,
        which=args.which,
        results=PLACES[0],
        outputs=args.outputs,
        output=args.output,
        repository=args.push,
    )


def submission(args: argparse.Namespace) -> int:
    """Write the predictions for the test set."""
    publish_submission(
        str(_record(args)),
        which=args.which,
        results=PLACES[0],
        outputs=args.outputs,
        output=args.output,
        data_dir=args.data_dir,
    )
    return 0


def verify(args: argparse.Namespace) -> int:
    """Have the scores of runs re-derived."""
    if bool(args.name) == args.all:
        given = "RUN and --all" if args.all else "neither RUN nor --all"
        raise UserError(f"verify: got {given}; give one of the two: export.py verify RUN, or verify --all")
    return verify_runs(
        args.name,
        which=args.which,
        places=[args.results] if args.results else WRITTEN,
        outputs=args.outputs,
        data_dir=args.data_dir,
    )


def _record(args: argparse.Namespace) -> Path:
    """The record of the run that is asked for."""
    return find_record(args.name, [args.results] if args.results else PLACES)


def _add_verify(cli: argparse.ArgumentParser) -> None:
    """Which runs, and where their data lies."""
    cli.set_defaults(run=verify)
    _add_run(cli, WRITTEN, nargs="*")
    cli.add_argument("--all", action="store_true", help="every run whose weights are here and that is not verified yet")
    cli.add_argument("--data-dir", type=Path, help=MOVED)


def _add_run(
    cli: argparse.ArgumentParser, looked: Sequence[Path] = (PUBLISHED, *WRITTEN), nargs: str | None = None
) -> None:
    """Which run, or how many of them, and where it lies."""
    cli.add_argument("name", nargs=nargs, metavar="RUN", help="run id (the name of its record), or a record's path")
    cli.add_argument("--which", choices=("best", "last"), default="best", help="weights of the best or last evaluation")
    places = ", ".join(map(str, looked))
    cli.add_argument("--results", type=Path, help=f"folder with runs/; default: {places}")
    cli.add_argument("--outputs", type=Path, help="folder with RUN/best.safetensors; default: what the run was given")


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parse(argv)
    return guarded(args.run, args)


if __name__ == "__main__":
    sys.exit(main())
