"""What only a GPU can show: a captured run is the eager one, nothing waits, the same bits twice, memory comes back."""

import gc
import json
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.clocks import without_clocks
from helpers.every_method import METHODS, apply
from helpers.runs import TINY, command, compose, folders
from helpers.toys import KINDS, encoder
from helpers.training import TOTAL, trainer
from torch import Tensor

from lora2.config.resolve import resolve
from lora2.experiments.bench.gpu import STEPS, WARM_UP, compare, contenders_of
from lora2.experiments.bench.measure import interleaved
from lora2.experiments.bench.peers import PEERS, Shape
from lora2.glue.batches import eval_batches
from lora2.runs.record import RunRecord, read_record
from lora2.training.build import build_accelerator
from lora2.training.captured.capturer import CudaCapturer
from lora2.training.captured.forward import make_capturable
from lora2.training.captured.step import CapturedStep
from lora2.training.clock import DeviceClock, PhaseClock
from lora2.training.loop import Trainer
from lora2.training.run import run
from lora2.training.state import TrainState
from lora2.training.step import TrainStep

pytestmark = pytest.mark.gpu

TOY = Shape("bert", 32, 2, 4, 48, 4, 8)
READS_THE_DEVICE = {"adalora_peft"}  # PEFT's allocator, in every step


def gpu_trainer(name: str, kind: str, precision: str, step: str, **recipe: object) -> Trainer:
    """A run of a dozen steps with dropout, on the GPU."""
    accelerator = build_accelerator(precision)
    model = encoder(kind, dropout=0.1).train().to(accelerator.device)
    make_capturable(model)
    torch.manual_seed(1)
    run = trainer(model, apply(name, model), accelerator=accelerator, **recipe)
    return Trainer(**{**vars(run), "step": step, "deterministic": True})


def fitted(run: Trainer) -> tuple[dict[str, object], dict[str, Tensor]]:
    """What training gives, without its clocks: the course of the run, and every weight and statistic."""
    state: TrainState = run.fit()
    tensors = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    if run.method.stateful is not None:
        tensors |= {name: x.clone() for name, x in run.method.stateful.state_dict().items()}
    return {name: value for name, value in state.to_json().items() if name != "seconds"}, tensors


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ---------------------------------------------------------------------------------------------- captured is eager


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_captured_run_is_the_eager_one(kind, name, precision):
    eager, weights = fitted(gpu_trainer(name, kind, precision, "eager"))
    captured, captured_weights = fitted(gpu_trainer(name, kind, precision, "captured"))
    assert captured == eager
    assert same(captured_weights, weights)


@pytest.mark.parametrize("kind", KINDS)
def test_a_captured_run_with_accumulation_is_the_eager_one(kind):
    (eager, weights), (captured, captured_weights) = (
        fitted(gpu_trainer("lora2", kind, "bf16", step, accumulation=2)) for step in ("eager", "captured")
    )
    assert captured == eager
    assert same(captured_weights, weights)


@pytest.mark.parametrize("name", METHODS)
def test_steps_are_replayed(name, monkeypatch):
    replays = []
    capture = CudaCapturer.capture

    def counted(self: CudaCapturer, work: Callable[[], dict[str, Tensor]]) -> Callable[[], dict[str, Tensor]]:
        replay = capture(self, work)

        def counting() -> dict[str, Tensor]:
            replays.append(1)
            return replay()

        return counting

    monkeypatch.setattr(CudaCapturer, "capture", counted)
    fitted(gpu_trainer(name, "bert", "bf16", "auto"))
    assert len(replays) > TOTAL / 2


@contextmanager
def nothing_waits() -> Iterator[None]:
    """Inside, what makes the host wait for the GPU is an error."""
    with warnings.catch_warnings():  # torch warns that it may not notice everything
        warnings.simplefilter("ignore", UserWarning)
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", sorted(METHODS.keys() - READS_THE_DEVICE))
@pytest.mark.parametrize("step", ["eager", "captured"])
def test_no_step_waits_for_the_gpu(name, step):
    run = gpu_trainer(name, "deberta-v2", "bf16", step)
    train_step, clock = run.build_step(), DeviceClock({}, lambda: torch.cuda.Event(enable_timing=True))
    batches = list(run._batches(0, PhaseClock({})))
    for index, batch in batches[:6]:  # libraries load and graphs are captured
        train_step(batch, index, clock)
    with nothing_waits():
        for index, batch in batches[6:]:
            train_step(batch, index, clock)
    train_step.close()


def test_batches_are_copied_from_pinned_memory_without_waiting():
    run = gpu_trainer("lora2", "bert", "bf16", "eager")
    with nothing_waits():
        assert len(list(run._batches(0, PhaseClock({})))) == TOTAL


# Where a run reads the device: history, evaluation (its end, the best weights), the look for what is not finite, and
# the positions of a width, which are made once.
MAY_WAIT = {"read", "_note_monitor", "_note_evaluation", "compute_parts", "look", "_make"}


@pytest.mark.parametrize("name", ["lora2", "adalora", "sora", "full"])
@pytest.mark.parametrize("step", ["eager", "captured"])
def test_a_run_waits_for_the_gpu_only_where_it_must(name, step, monkeypatch):
    for points in ("HISTORY_POINTS", "MONITOR_POINTS"):
        monkeypatch.setattr(f"lora2.training.loop.{points}", 3)
    run = gpu_trainer(name, "deberta-v2", "bf16", step)
    waits: list[set[str]] = []

    def noted(message: object, *_: object) -> None:
        if "synchronizing" in str(message):
            waits.append({frame.name for frame in traceback.extract_stack()})

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", noted)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run.fit()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert [names for names in waits if not names & MAY_WAIT] == []
    assert {"read", "compute_parts", "look"} <= set.union(*waits)


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_waits_for_the_gpu_only_at_its_end(kind, monkeypatch):
    run = gpu_trainer("lora2", kind, "bf16", "eager", batch_size=1)  # so that there are several batches
    model, split, fetch = run.model.eval(), run.data.splits["validation"], Tensor.cpu
    with torch.no_grad():
        expected = run.evaluator.logits(model, split)  # what a width needs is made
        passes: list[int] = []
        model.register_forward_pre_hook(lambda *_: passes.append(1))

        def fetched(x: Tensor) -> Tensor:
            assert len(passes) == len(eval_batches(split.lengths, 1)) > 2
            torch.cuda.set_sync_debug_mode("default")
            return fetch(x)

        monkeypatch.setattr(Tensor, "cpu", fetched)
        with nothing_waits():
            assert np.array_equal(run.evaluator.logits(model, split), expected)


def test_phases_are_the_devices():
    """Work that the host only asks for falls to the phase in which the device does it."""
    seconds: dict[str, float] = {}
    clock = DeviceClock(seconds, lambda: torch.cuda.Event(enable_timing=True))
    torch.cuda._sleep(100_000_000)
    clock.lap("long")
    torch.cuda._sleep(1_000_000)
    clock.lap("short")
    clock.settle()
    assert seconds["long"] > 10 * seconds["short"] > 0


def test_memory_comes_back():
    def once() -> int:
        fitted(gpu_trainer("lora2", "bert", "bf16", "captured"))
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved()

    first = once()  # libraries keep what they have taken
    assert once() <= first


# -------------------------------------------------------------------------------------------- the same bits twice


@pytest.fixture
def gpu_run(tmp_path) -> Callable[..., RunRecord]:
    """gpu_run(folder, *settings): a run of a process of its own in a folder of its own, and its record."""

    def start(folder: str, *settings: str) -> RunRecord:
        (tmp_path / folder).mkdir(exist_ok=True)
        process = command(*TINY, "recipe.max_steps=24", *settings, cwd=tmp_path / folder)
        assert process.returncode == 0, process.stderr
        (file,) = (tmp_path / folder / "outputs" / "results" / "runs").glob("*.json")
        return read_record(file)

    return start


def comparable(record: RunRecord) -> str:
    values = {name: value for name, value in without_clocks(record).items() if name not in ("notes", "memory")}
    return json.dumps(values, sort_keys=True)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("method", ["lora2", "lora", "sora", "full"])
def test_the_same_command_twice_gives_the_same_record(gpu_run, method, precision):
    settings = (f"method={method}", f"recipe.precision={precision}", *(("rank=k1",) if method == "lora2" else ()))
    first, second = gpu_run("first", *settings), gpu_run("second", *settings)
    assert comparable(first) == comparable(second)
    assert first.provenance["captured"] is True
    assert first.provenance["deterministic"] is True


def test_eager_and_captured_give_the_same_record_but_for_how(gpu_run):
    eager, captured = (gpu_run(step, f"step={step}") for step in ("eager", "captured"))
    assert (eager.provenance.pop("captured"), captured.provenance.pop("captured")) == (False, True)
    for record in (eager, captured):
        record.config.resolved.pop("step")
    assert eager.run_id == captured.run_id
    assert comparable(eager) == comparable(captured)


def test_a_stopped_run_goes_on_to_the_same_record(tmp_path, monkeypatch):
    settings = (*TINY, "recipe.max_steps=24", "recipe.eval_every=10", "checkpoint.every_steps=5")

    def record(folder: Path) -> str:
        (file,) = (folder / "results" / "runs").glob("*.json")
        found = read_record(file)
        found.config.resolved.pop("results_dir")
        found.config.resolved.pop("output_dir")
        return comparable(found)

    assert run(resolve(compose(*settings, *folders(tmp_path / "whole")))) == 0
    call = CapturedStep.__call__

    def stopping(self: CapturedStep, batch: object, index: int, clock: object) -> object:
        if index == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(self, batch, index, clock)

    stopped = resolve(compose(*settings, *folders(tmp_path / "stopped")))
    with monkeypatch.context() as patch:
        patch.setattr(CapturedStep, "__call__", stopping)
        assert run(stopped) == 143
    assert run(stopped) == 0
    assert record(tmp_path / "stopped") == record(tmp_path / "whole")


def test_a_large_change_in_bf16_passes_the_check_of_itself(gpu_run):
    """W + ΔW rounded to bf16 is another function than bf16 W beside ΔW; the check compares the merge alone."""
    record = gpu_run("large", "recipe.lr=0.5", "recipe.precision=bf16", "budget=none")
    assert record.checks["merged_equals_unmerged"]
    assert record.checks["exported_equals_unmerged"]


# -------------------------------------------------------------------------------------------------- the benchmark


def test_every_peer_of_the_benchmark_steps():
    timed = interleaved(PEERS, TOY, "bf16", 4, lambda text: None)
    assert set(timed) == set(PEERS)


def test_every_contender_is_measured():
    rows = compare(TOY, contenders_of("toy"), build_accelerator("bf16"), CudaCapturer, 4, lambda text: None)
    assert len(rows) == 15
    for row in rows:
        assert row["kernels"] > 0
        assert row["busy_ms"] > 0
    assert WARM_UP * STEPS > 3  # the first steps run eagerly and capture


def test_a_captured_step_is_the_benchmarks_too(monkeypatch):
    """The benchmark times what training does: eager where a run would be, captured where a run would be."""
    assert isinstance(gpu_trainer("lora2", "bert", "bf16", "eager").build_step(), TrainStep)
    assert isinstance(gpu_trainer("lora2", "bert", "bf16", "auto").build_step(), CapturedStep)
