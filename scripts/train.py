"""Train one run, or a sweep with -m. Settings: configs/train.yaml; `--help` lists groups, `--cfg job` the result."""

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and `main` prints one message without a traceback

import hydra  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.errors import HydraException  # noqa: E402
from hydra.types import RunMode  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from lora2.cli import INTERRUPTED, MISTAKE, say  # noqa: E402
from lora2.errors import UserError  # noqa: E402
from lora2.sweep import start_run, was_stopped  # noqa: E402

EXIT_CODES: list[int] = []
OmegaConf.clear_resolver("oc.env")  # so that no file of settings can put an environment variable into a record
FAILURES = "LORA2_SWEEP_FAILURES"  # names the file where the jobs of a sweep, in whatever process, leave their failures


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def job(composed: DictConfig) -> None:
    """One job: the composed settings become a RunConfig, and Hydra is left behind."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        job_of_sweep(list(HydraConfig.get().overrides.task))
        return
    from lora2.config import resolve
    from lora2.run import run

    try:
        settings = OmegaConf.to_container(composed, resolve=True)
        EXIT_CODES.append(run(resolve(settings)))  # type: ignore[arg-type]
    except (
        UserError,
        OmegaConfBaseException,
    ) as error:  # raised further, Hydra would print a line of its own before it
        say(f"error: {error}" if isinstance(error, UserError) else in_our_words(error))
        EXIT_CODES.append(MISTAKE)


def job_of_sweep(overrides: list[str]) -> None:
    """One job of -m, in a process of its own; a failure is reported at once and does not stop the others."""
    code = start_run(overrides)
    if was_stopped(code):
        raise KeyboardInterrupt
    if code:
        line = f"{' '.join(overrides)} (exit code {code})"
        say(f"FAILED: {line}")
        with Path(os.environ[FAILURES]).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def main() -> int:
    """Exit code: 0 done, 1 a run failed, 2 a mistake in the settings or the data, 130 interrupted."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FAILURES] = str(Path(folder) / "failures")
        try:
            job()
        except (HydraException, OmegaConfBaseException) as error:
            say(in_our_words(error))
            return MISTAKE
        except KeyboardInterrupt:
            say("interrupted")
            return INTERRUPTED
        return max(*EXIT_CODES, _sweep_code(Path(os.environ[FAILURES])), 0)


def in_our_words(error: Exception) -> str:
    """Hydra's message without its search path, and without advice that cannot help: no key can be appended here."""
    lines = str(error).split("Config search path:")[0].splitlines()
    kept = [line.strip() for line in lines if line.strip() and not line.startswith("To append to your config")]
    return "error: " + "\n  ".join([*kept, "see all keys with --cfg job"])


def _sweep_code(failures: Path) -> int:
    """1 if jobs of a sweep failed, after a summary of them."""
    if not failures.exists():
        return 0
    lines = failures.read_text(encoding="utf-8").splitlines()
    say("\n  ".join([f"failed jobs, {len(lines)} in all:", *lines]))
    return 1


if __name__ == "__main__":
    sys.exit(main())
