"""For pytest -p cuda_standin.plugin: GPU tests on a device that computes nothing.

Comparisons of values hold here whatever the values are. A test fails if a capture refused something, see runtime.cpp.
"""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lora2.core.allocator import RankAllocator
from lora2.models.methods.adalora_peft import PeftAdaLoRA

RUNTIME = ctypes.CDLL(os.environ["LD_PRELOAD"])
NEED_A_GPU = {  # for what it computes, or for its clock and its profiler
    "test_the_same_command_twice_gives_the_same_record",
    "test_eager_and_captured_give_the_same_record_but_for_how",
    "test_a_stopped_run_goes_on_to_the_same_record",
    "test_a_large_change_in_bf16_passes_the_check_of_itself",
    "test_phases_are_the_devices",
    "test_every_contender_is_measured",
}


def pytest_configure() -> None:
    torch.backends.cuda.enable_cudnn_sdp(False)  # cuDNN is not stood in for; deterministic runs do without it
    torch.equal = lambda a, b: a.shape == b.shape  # type: ignore[assignment]
    RankAllocator.assert_final_budget = lambda self: None  # type: ignore[method-assign]
    PeftAdaLoRA.count_parameters = lambda self: {}  # type: ignore[method-assign,assignment,return-value]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if getattr(item, "originalname", "") in NEED_A_GPU]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def nothing_was_refused(tmp_path: Path) -> Iterator[None]:
    """What a capture does not bear; CUDA would say it of the first alone."""
    RUNTIME.standin_reset()
    yield
    RUNTIME.standin_write_refused(bytes(tmp_path / "refused"))
    assert (tmp_path / "refused").read_text() == ""
