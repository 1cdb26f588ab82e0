"""Where tests compute. Without `-m gpu` on the CPU, on a machine with a GPU too: toys are made there, and what a GPU
shows is in tests/training/test_on_a_gpu.py. Every test, and every process a test starts, computes on one thread: tiny
models are slower on more, and the workers of a parallel run would fight.
"""

import os
from collections.abc import Iterable

import pytest

os.environ["OMP_NUM_THREADS"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before anything asks torch for its devices


def pytest_collection_modifyitems(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _has_gpu():
        why = "torch sees no GPU" if config.option.markexpr == "gpu" else "needs a GPU: make gpu-check"
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=why))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
