"""A process of its own for lengths.measure: tokenise (the runs later find the cache) and leave the lengths as JSON."""

import json
import os
import sys
from pathlib import Path

import numpy as np

from lora2.common.errors import UserError
from lora2.config.schema import RunConfig
from lora2.config.task import load_data
from lora2.experiments.cost.lengths import measured_path


def measure_one(cfg: RunConfig) -> None:
    """Write the lengths of one task's train and dev splits."""
    raw = load_data(cfg)
    from lora2.glue.tokens import tokenise  # seconds of imports, and the data may not be there
    from lora2.models.tokenizer import load_tokenizer

    splits = tokenise(raw, load_tokenizer(cfg.model, raw), cfg.recipe.max_length, Path(cfg.output_dir) / "tokens")
    dev = np.concatenate([splits[name].lengths for name in raw.spec.dev_splits])
    path = measured_path(cfg)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"train": splits["train"].lengths.tolist(), "dev": dev.tolist()}), encoding="utf-8")
    temporary.replace(path)


def main() -> int:
    """Measure the data of the settings that standard input holds."""
    try:
        for settings in json.load(sys.stdin):
            measure_one(RunConfig.model_validate(settings))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
