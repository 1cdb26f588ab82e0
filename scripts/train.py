"""Train one run, or a sweep with -m. Settings: configs/train.yaml; `--help` lists groups, `--cfg job` the result."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and `main` prints one message without a traceback

import hydra  # noqa: E402
from hydra.errors import HydraException  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from lora2.errors import UserError  # noqa: E402

EXIT_CODES: list[int] = []


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def job(composed: DictConfig) -> None:
    """One job: the composed settings become a RunConfig, and Hydra is left behind."""
    from lora2.config import resolve
    from lora2.run import run

    settings = OmegaConf.to_container(composed, resolve=True)
    EXIT_CODES.append(run(resolve(settings)))  # type: ignore[arg-type]


def main() -> int:
    """Exit code: 0 done, 1 a run failed, 2 a mistake in the settings or the data, 130 interrupted."""
    try:
        job()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {_first_words(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return max(EXIT_CODES, default=0)


def _first_words(error: Exception) -> str:
    """The message, and for a key that no config has, how to find the right one."""
    hint = "\n  see all keys with --cfg job" if isinstance(error, (HydraException, OmegaConfBaseException)) else ""
    return f"{error}{hint}"


if __name__ == "__main__":
    sys.exit(main())
