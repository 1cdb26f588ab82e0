"""Train one run, or a sweep with -m. Settings: configs/train.yaml; `--help` lists groups, `--cfg job` the result.

`-m ... --dry-run [--json]` lists the jobs of a sweep, their states and their cost, and runs nothing.
Exit codes: 0 done, 1 a run failed, 2 a mistake in the settings or the data, 3 another process is doing this run,
130 interrupted (143, 138, 140: asked to stop by SIGTERM, SIGUSR1, SIGUSR2).
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and `main` prints one message without a traceback

import hydra  # noqa: E402
from hydra.core.config_store import ConfigStore  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.core.plugins import Plugins  # noqa: E402
from hydra.errors import HydraException  # noqa: E402
from hydra.types import RunMode  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from lora2.common.errors import UserError  # noqa: E402
from lora2.common.terminal import (  # noqa: E402
    INTERRUPTED,
    MISTAKE,
    give_reason,
    guarded,
    reader_gone,
    say,
)
from lora2.experiments.multirun import Watch, do_job, new_folder  # noqa: E402

EXIT_CODES: list[int] = []
OmegaConf.clear_resolver("oc.env")  # so that no file of settings can put an environment variable into a record
SWEEP = {"-m", "--multirun", "hydra.mode=MULTIRUN"}


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def job(composed: DictConfig) -> None:
    """One job: the composed settings become a RunConfig, and Hydra is left behind."""
    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        alone = settings.runtime.choices["hydra/launcher"] == "basic"
        do_job(settings.job.num, list(settings.overrides.task), alone=alone)
        return
    from lora2.config.schema import resolve
    from lora2.training.run import run

    try:
        EXIT_CODES.append(run(resolve(OmegaConf.to_container(composed, resolve=True))))  # type: ignore[arg-type]
    except UserError as error:  # raised further, Hydra would print a line of its own before it, as for the next
        EXIT_CODES.append(_refused(str(error), error.exit_code))
    except OmegaConfBaseException as error:
        EXIT_CODES.append(_refused(in_our_words(error), MISTAKE))


def main() -> int:
    """The exit code."""
    if "--dry-run" in sys.argv:
        return guarded(dry_run, argparse.Namespace(arguments=sys.argv[1:]))
    prefer_own_launchers()
    if not SWEEP & set(sys.argv):
        return _hydra()
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep + path if path else ''}"  # for a launcher's own processes
    with Watch(new_folder()) as watch:
        try:
            code = _hydra()
        except Exception as error:  # its jobs raise nothing
            code = _refused(_broken_launcher(error), 1)
    return max(code, watch.finish())


def prefer_own_launchers() -> None:
    """Drop the plugins' configurations that configs/hydra/launcher replaces: Hydra would merge them, with a warning."""
    Plugins.instance()  # which makes them known
    known = ConfigStore.instance().repo["hydra"]["launcher"]
    for path in (ROOT / "configs" / "hydra" / "launcher").glob("*.yaml"):
        known.pop(path.name, None)


def _hydra() -> int:
    try:
        job()
    except (HydraException, OmegaConfBaseException) as error:
        return _refused(in_our_words(error), MISTAKE)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return INTERRUPTED
    except BrokenPipeError:
        return reader_gone()
    return max(EXIT_CODES, default=0)


def in_our_words(error: Exception) -> str:
    """Hydra's message without its search path, and without advice that cannot help: no key can be appended here."""
    lines = str(error).split("Config search path:")[0].splitlines()
    kept = [line.strip() for line in lines if line.strip() and not line.startswith("To append to your config")]
    return "\n  ".join([*kept, "see all keys with --cfg job"])


def _broken_launcher(error: Exception) -> str:
    text = str(error)
    if text.startswith("Unknown plugin class"):
        return f"hydra/launcher: {text}; is it installed? pip install -e '.[launchers]'"
    return f"the launcher broke down: {type(error).__name__}: {text}"


def _refused(message: str, code: int) -> int:
    say(f"error: {message}")
    give_reason(message)
    return code


def dry_run(args: argparse.Namespace) -> int:
    """What a command line would run."""
    from lora2.config.grid import expand
    from lora2.experiments.status import survey
    from lora2.experiments.sweep import counts, listing

    flags = SWEEP | {"--dry-run", "--json"}
    given = [text for text in args.arguments if text not in flags and not text.startswith("hydra")]
    names = [text.removeprefix("experiment=") for text in given if text.startswith("experiment=")]
    standings = survey(expand(names[-1] if names else None, [x for x in given if not x.startswith("experiment=")]))
    print(listing(standings, as_data="--json" in args.arguments))
    say(counts(standings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
