"""How many operations a step asks of the device; on a GPU most take less time than to start them (docs/LOG.md).

The counts are of this version; a change that needs more must say what for.
"""

from dataclasses import replace

import pytest
from helpers.operations import Operations

from lora2.core import bf16
from lora2.experiments.bench.measure import make_batch, make_runner
from lora2.experiments.bench.peers import PEERS, Shape
from lora2.training.build import build_accelerator
from lora2.training.captured.forward import make_capturable
from lora2.training.clock import PhaseClock

BERT = Shape("bert", 32, 2, 2, 64, 2, 16)
DEBERTA = replace(BERT, model_type="deberta-v2")


def operations(method: str, shape: Shape, monkeypatch: pytest.MonkeyPatch) -> int:
    """Of the third step in bf16, with the forward pass that a GPU gets."""
    monkeypatch.setattr(bf16, "needs_emulation", lambda device: False)  # on every processor the same operations
    accelerator = build_accelerator("bf16")
    prepare = accelerator.prepare

    def mended(model, optimizer):
        make_capturable(model)
        return prepare(model, optimizer)

    monkeypatch.setattr(accelerator, "prepare", mended)
    runner, batch = make_runner(PEERS[method], shape, accelerator), make_batch(shape, accelerator.device)
    for index in range(2):
        runner.train_step(batch, index, PhaseClock({}))
    with Operations() as seen:
        runner.train_step(batch, 2, PhaseClock({}))
    return seen.count


@pytest.mark.parametrize(
    ("shape", "limits"), [(BERT, {2: 434, 4: 614}), (DEBERTA, {2: 432, 4: 610})], ids=["bert", "deberta"]
)
def test_a_step_of_lora2_has_no_more_operations_than(shape, limits, monkeypatch):
    found = {layers: operations("ours", replace(shape, layers=layers), monkeypatch) for layers in limits}
    assert all(found[layers] <= limit for layers, limit in limits.items()), found


@pytest.mark.parametrize("shape", [BERT, DEBERTA], ids=["bert", "deberta"])
def test_a_step_of_lora2_has_fewer_operations_than_one_of_stock_lora(shape, monkeypatch):
    shape = replace(shape, layers=6)
    assert operations("ours", shape, monkeypatch) < operations("peft_lora", shape, monkeypatch)
