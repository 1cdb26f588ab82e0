"""Train one run, or a sweep with -m. Settings: configs/train.yaml; `--help` lists groups, `--cfg job` the result.

`... --resolved` shows every setting with its value and where that comes from, and runs nothing.
`-m ... --dry-run [--json]` lists the jobs of a sweep, their states and their cost, and runs nothing.
Exit codes: 0 done, 1 a run failed, 2 a mistake in the settings or the data, 3 another process is doing this run,
130 interrupted (143, 138, 140: asked to stop by SIGTERM, SIGUSR1, SIGUSR2).
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and `main` prints one message without a traceback

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora2.common.errors import UserError
from lora2.common.terminal import INTERRUPTED, MISTAKE, guarded, reader_gone
from lora2.common.voice import say
from lora2.config.overrides import literal_paths, parse
from lora2.experiments.launchers import FOLDER, Watch, do_job, new_folder
from lora2.runs.reason import give_reason

if TYPE_CHECKING:
    from lora2.experiments.status import JobStatus

TRAIN = Path(__file__).resolve()
EXPORT = TRAIN.with_name("export.py")
CONFIGS = TRAIN.parents[1] / "configs"
EXIT_CODES: list[int] = []
OmegaConf.clear_resolver("oc.env")  # so that no file of settings can put an environment variable into a record
OmegaConf.register_new_resolver(
    "sweep_folder", lambda: os.environ.get(FOLDER, ""), replace=True
)  # configs/hydra/launcher/ray.yaml
SWEEP = {"-m", "--multirun", "hydra.mode=MULTIRUN"}


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def job(composed: DictConfig) -> None:
    """One job: the composed settings become a RunConfig, and Hydra is left behind."""
    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        alone = settings.runtime.choices["hydra/launcher"] == "basic"
        do_job(TRAIN, settings.job.num, list(settings.overrides.task), alone=alone)
        return
    from lora2.training.run import run_composed

    try:
        tree: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
        EXIT_CODES.append(run_composed(tree, list(settings.overrides.task), CONFIGS, EXPORT))
    except UserError as error:  # raised further, Hydra would print a line of its own before it, as for the next
        EXIT_CODES.append(_refused(str(error), error.exit_code))
    except OmegaConfBaseException as error:
        EXIT_CODES.append(_refused(in_our_words(error), MISTAKE))


def main() -> int:
    """Do what the command line asks for; the exit code."""
    sys.argv[1:] = literal_paths(sys.argv[1:])
    for flag, show in (("--dry-run", dry_run), ("--resolved", show_resolved)):
        if flag in sys.argv:
            return guarded(show, argparse.Namespace(arguments=sys.argv[1:]))
    prefer_own_launchers()
    do = sweep if SWEEP & set(sys.argv) else one_run
    return guarded(do, argparse.Namespace(arguments=sys.argv[1:]))


def one_run(args: argparse.Namespace) -> int:
    """Do a run, or what else Hydra is asked for, if there is no choice on the command line that it could not take."""
    if not _asks_hydra(args.arguments):
        for word in _settings(args.arguments, set()):
            parse(word, CONFIGS)
    return _hydra()


def sweep(args: argparse.Namespace) -> int:
    """Do a sweep, if none of its jobs would be refused."""
    from lora2.experiments.status import survey
    from lora2.experiments.sweep import refuse, tell_results

    statuses = [] if _asks_hydra(args.arguments) else _survey(args.arguments)
    refuse(statuses)
    folder = new_folder(Path(statuses[0].job.cfg.output_dir if statuses else "outputs"))
    with Watch(folder, len(statuses) or None) as watch:
        try:
            code = _hydra()
        except Exception as error:  # its jobs raise nothing
            code = _refused(_broken_launcher(error), 1)
    code = max(code, watch.finish())
    if statuses and code != INTERRUPTED:
        jobs = [status.job for status in statuses]
        tell_results(f"{len(jobs)} jobs", survey(jobs), TRAIN)
    return code


def prefer_own_launchers() -> None:
    """Drop the plugins' configurations that configs/hydra/launcher replaces: Hydra would merge them, with a warning."""
    Plugins.instance()  # which makes them known
    known = ConfigStore.instance().repo["hydra"]["launcher"]
    for path in (CONFIGS / "hydra" / "launcher").glob("*.yaml"):
        known.pop(path.name, None)


def _hydra() -> int:
    try:
        job()
    except (HydraException, OmegaConfBaseException) as error:
        return _refused(in_our_words(error), MISTAKE)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here", at="quiet")
        return INTERRUPTED
    except BrokenPipeError:
        return reader_gone()
    return max(EXIT_CODES, default=0)


def in_our_words(error: Exception) -> str:
    """Cut from Hydra's message its search path, and advice that cannot help: no key can be appended here."""
    lines = str(error).split("Config search path:")[0].splitlines()
    kept = [line.strip() for line in lines if line.strip() and not line.startswith("To append to your config")]
    return "\n  ".join([*kept, "see all keys with --cfg job"])


def _broken_launcher(error: Exception) -> str:
    text = str(error)
    if text.startswith("Unknown plugin class"):
        how = "hydra-ray-launcher==1.2.2, in an environment of its own" if "ray" in text else "-e '.[launchers]'"
        return f"hydra/launcher: {text}; is it installed? pip install {how}"
    return f"the launcher broke down: {type(error).__name__}: {text}"


def _refused(message: str, code: int) -> int:
    say(f"error: {message}", at="quiet")
    give_reason(message)
    return code


def dry_run(args: argparse.Namespace) -> int:
    """List what a command line would run: one job, or with -m those of the sweep."""
    from lora2.experiments.sweep import list_jobs, refuse, state_counts

    statuses = _survey(args.arguments)
    print(list_jobs(statuses, as_json="--json" in args.arguments))
    say(state_counts(statuses))
    refuse(statuses)
    return 0


def show_resolved(args: argparse.Namespace) -> int:
    """Show every setting of a run with its value and its origin."""
    from lora2.config.compose import compose_with_origins
    from lora2.config.resolve import listing, resolve_with_origins

    if SWEEP & set(args.arguments):
        raise UserError("--resolved: shows the settings of one run; leave out -m, or list the jobs with --dry-run")
    given = _settings(args.arguments, {"--resolved"})
    print(listing(*resolve_with_origins(*compose_with_origins(given, CONFIGS))))
    return 0


def _survey(arguments: list[str]) -> "list[JobStatus]":
    """The state of every job of a command line.

    Raises:
        UserError: settings that do not hold together, a sweep of no job, or a sweep without -m.
    """
    from lora2.config.compose import compose
    from lora2.config.grid import expand
    from lora2.experiments.status import survey

    given = _settings(arguments, SWEEP | {"--dry-run", "--json"})
    if not SWEEP & set(arguments):
        compose(given, CONFIGS)  # refuses several values
        return survey(expand(None, given, configs=CONFIGS))
    names = [text.removeprefix("experiment=") for text in given if text.startswith("experiment=")]
    rest = [text for text in given if not text.startswith("experiment=")]
    return survey(expand(names[-1] if names else None, rest, configs=CONFIGS))


def _asks_hydra(arguments: list[str]) -> bool:
    """Whether a sweep's command line has what only Hydra knows: --help or --cfg, another sweeper."""
    flags = [text for text in arguments if text.startswith("-") and text not in SWEEP]
    return bool(flags) or any(text.startswith("hydra/sweeper=") for text in arguments)


def _settings(arguments: list[str], flags: set[str]) -> list[str]:
    """What is left of a command line without flags and without Hydra's own settings."""
    return [text for text in arguments if text not in flags and not text.startswith("hydra")]


if __name__ == "__main__":
    sys.exit(main())
