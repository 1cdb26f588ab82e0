"""Take a trained run away.

    python scripts/export.py lora RUN          a folder that stock peft loads, with none of this project's code
    python scripts/export.py merged RUN        the whole model, for stock transformers
    python scripts/export.py submission RUN    predictions for the GLUE server

Each prints what it has written. Exit codes: 0 done, 1 the hub refused --push, 2 a mistake of the user's.
"""

import argparse
import sys
from pathlib import Path

from lora2.common.terminal import guarded
from lora2.runs.export.publish import publish_run
from lora2.runs.finished import find_record
from lora2.runs.places import DEMO, OWN, PUBLISHED
from lora2.runs.submission import publish_submission

ROOT = Path(__file__).resolve().parents[1]
PLACES = (ROOT / PUBLISHED, OWN, DEMO)  # a user's own are where the run was started


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
    command.add_argument("--data-dir", type=Path, help="the official GLUE download, if it has moved since the run")
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


def _record(args: argparse.Namespace) -> Path:
    """The record of the run that is asked for."""
    return find_record(args.name, [args.results] if args.results else PLACES)


def _add_run(cli: argparse.ArgumentParser) -> None:
    """Which run, and where it lies."""
    cli.add_argument("name", metavar="RUN", help="run id (the name of its record), or a record's path")
    cli.add_argument("--which", choices=("best", "last"), default="best", help="weights of the best or last evaluation")
    cli.add_argument("--results", type=Path, help="folder with runs/; default: results, outputs/results, outputs/demo")
    cli.add_argument("--outputs", type=Path, help="folder with RUN/best.safetensors; default: what the run was given")


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parse(argv)
    return guarded(args.run, args)


if __name__ == "__main__":
    sys.exit(main())
