"""The captured step is the eager one, bit for bit, with a stand-in for CUDA graphs; and what a graph cannot record."""

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import runs
from helpers.every_method import METHODS, apply
from helpers.host_tensors import HostUse, NoHostUse, without_autocast
from helpers.standin import StandIn
from helpers.toys import KINDS, Mlp, encoder, tokens
from helpers.training import TOTAL, lora2, split, trainer
from torch import Tensor, nn

from lora2.core.inject import LoRA2Config, inject
from lora2.experiments.bench.peers import PEERS
from lora2.glue.collate import collate
from lora2.glue.loader import MicroBatch, StepBatch
from lora2.glue.tokens import TokenisedSplit
from lora2.models.methods.base import Method
from lora2.models.methods.subset import Subset
from lora2.training.captured import capturer as of_cuda
from lora2.training.captured.capturer import CaptureError
from lora2.training.captured.choice import capture_notes, captures
from lora2.training.captured.forward import make_capturable
from lora2.training.captured.step import CapturedStep
from lora2.training.clock import PhaseClock
from lora2.training.finite import DivergedError, FiniteWatch
from lora2.training.loop import Trainer
from lora2.training.state import TrainState
from lora2.training.step import TrainStep


@dataclass
class Ran:
    """What a run left."""

    state: TrainState
    tensors: dict[str, Tensor]
    step: TrainStep | CapturedStep


def ran(name: str, kind: str, capturer: StandIn | None, **recipe: object) -> Ran:
    """A run with dropout; with a capturer, captured by it."""
    model = encoder(kind, dropout=0.1).train()
    make_capturable(model)
    torch.manual_seed(1)
    method = apply(name, model)
    run = trainer(model, method, **recipe)
    eager = run.build_step()
    assert isinstance(eager, TrainStep)
    step = eager if capturer is None else CapturedStep(eager, capturer)
    state = fit(run, step)
    tensors = {name: p.detach().clone() for name, p in model.named_parameters()}
    if method.stateful is not None:
        tensors |= {name: x.clone() for name, x in method.stateful.state_dict().items()}
    return Ran(state, tensors, step)


def fit(run: Trainer, step: TrainStep | CapturedStep) -> TrainState:
    """Train with a step that was made already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "build_step", lambda self: step)
        return run.fit()


def without_seconds(state: TrainState) -> dict[str, object]:
    return {name: value for name, value in state.to_json().items() if name != "seconds"}


# ---------------------------------------------------------------------------------------------- captured is eager


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_captured_run_is_the_eager_one(kind, name):
    capturer = StandIn()
    eager, captured = ran(name, kind, None), ran(name, kind, capturer)
    assert capturer.calls.count("replay") > TOTAL / 2
    assert without_seconds(captured.state) == without_seconds(eager.state)
    assert captured.tensors.keys() == eager.tensors.keys()
    assert all(torch.equal(captured.tensors[name], value) for name, value in eager.tensors.items())
    weights = captured.state.best_weights
    assert all(torch.equal(weights[name], value) for name, value in eager.state.best_weights.items())


def batch(rows: int, width: int, seed: int = 0) -> StepBatch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 30, (rows, width), generator=generator)
    tensors = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.zeros(rows, dtype=torch.int64)}
    return StepBatch(np.arange(rows), [MicroBatch(tensors)])


def captured_mlp(capturer: StandIn, **options: int) -> CapturedStep:
    model = Mlp()
    eager = trainer(model, lora2(model)).build_step()
    assert isinstance(eager, TrainStep)
    return CapturedStep(eager, capturer, **options)


def test_a_shape_is_warmed_up_captured_and_replayed():
    capturer = StandIn()
    step = captured_mlp(capturer)
    for index, shape in enumerate([(4, 5), (4, 5), (4, 6), (4, 5), (3, 5)]):
        step(batch(*shape), index, PhaseClock({}))
    # of a micro-batch, and of what follows the last one: regularisers and clip, whatever its shape
    assert capturer.calls == [
        "warm up", "warm up",
        "capture", "replay", "capture", "replay",
        "warm up", "replay",
        "replay", "replay",
        "warm up", "replay",
    ]  # fmt: skip
    assert step.captured == [(4, 5)]


def test_micro_batches_of_one_step_share_their_graphs():
    capturer = StandIn()
    step = captured_mlp(capturer)
    for index in range(2):
        halves = [batch(2, 5, seed=2 * index + half).parts[0] for half in range(2)]
        step(StepBatch(np.arange(4), halves), index, PhaseClock({}))
    assert capturer.calls == [
        "warm up", "capture", "replay", "warm up",
        "replay", "replay", "capture", "replay",
    ]  # fmt: skip
    assert step.captured == [(2, 5)]


def test_the_share_of_a_micro_batch_in_its_batch_belongs_to_the_graph():
    """It is a number in the captured work: the last, shorter batch of an epoch has another."""
    capturer = StandIn()
    step = captured_mlp(capturer)
    part = batch(2, 5).parts[0]
    for index, size in enumerate([4, 4, 3]):
        step(StepBatch(np.arange(size), [part, part]), index, PhaseClock({}))
    assert step.captured == [(2, 5), (2, 5)]


@pytest.mark.parametrize("accumulation", [2, 3])
def test_a_captured_run_with_accumulation_is_the_eager_one(accumulation):
    capturer = StandIn()
    eager, captured = (ran("lora2", "bert", way, accumulation=accumulation) for way in (None, capturer))
    assert capturer.calls.count("replay") > accumulation * TOTAL / 2
    assert without_seconds(captured.state) == without_seconds(eager.state)
    assert all(torch.equal(captured.tensors[name], value) for name, value in eager.tensors.items())


def test_the_shape_that_was_not_used_for_the_longest_time_goes():
    step = captured_mlp(StandIn(), max_graphs=2)
    shapes = [(4, 5), (4, 5), (4, 6), (4, 6), (4, 5), (4, 7), (4, 7)]
    for index, shape in enumerate(shapes):
        step(batch(*shape), index, PhaseClock({}))
    assert step.captured == [(4, 5), (4, 7)]


def test_a_replay_reads_what_its_batch_holds_and_leaves_the_batch_alone():
    step = captured_mlp(StandIn())
    losses = []
    for index in range(6):
        given = batch(4, 5, seed=index)
        before = given.parts[0].tensors["input_ids"].clone()
        losses.append(float(step(given, 0, PhaseClock({}))["loss/task"]))
        assert torch.equal(given.parts[0].tensors["input_ids"], before)
    assert len(set(losses)) == 6


def test_the_gradients_stay_where_they_are_until_the_end():
    """A graph writes to addresses."""
    step = captured_mlp(StandIn())
    places = set()
    for index in range(5):
        step(batch(4, 5 + index % 2), index, PhaseClock({}))
        gradients = [p.grad for group in step.optimizer.param_groups for p in group["params"]]
        places.add(tuple(x.data_ptr() for x in gradients))
    assert len(places) == 1
    step.close()
    assert step.captured == []
    assert all(p.grad is None for group in step.optimizer.param_groups for p in group["params"])


def test_a_run_frees_its_graphs_even_when_it_fails():
    for failing in (False, True):
        model, capturer = Mlp(), StandIn()
        run = trainer(model, lora2(model), lr=1e30 if failing else 0.02)
        eager = run.build_step()
        assert isinstance(eager, TrainStep)
        step = CapturedStep(eager, capturer)
        if failing:
            with pytest.raises((DivergedError, FloatingPointError)):
                fit(run, step)
        else:
            fit(run, step)
        assert capturer.calls[-1] == "release"
        assert step.captured == []


def test_the_cast_copy_of_a_frozen_weight_survives_a_merge():
    """A graph that was captured before an evaluation reads it at every replay after it."""
    model = encoder("bert")
    adapter = inject(model, LoRA2Config(k=1, r=2))
    layer = adapter.layers["layer.0.query"]
    weight, bias = layer._frozen(torch.bfloat16)
    with adapter.merged():
        assert layer._frozen(torch.bfloat16)[0] is not weight
    assert layer._frozen(torch.bfloat16)[0] is weight
    assert layer._frozen(torch.bfloat16)[1] is bias


def test_phases_of_a_captured_step():
    step, seconds = captured_mlp(StandIn()), dict[str, float]()
    for index in range(3):
        step(batch(4, 5), index, PhaseClock(seconds))
    assert set(seconds) == {"gradients", "method", "optimizer"}


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """CudaCapturer with nothing behind it."""

    class Graph:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    fake = SimpleNamespace(
        Stream=object, graph_pool_handle=object, CUDAGraph=object, graph=lambda *args, **options: Graph()
    )
    monkeypatch.setattr(of_cuda.torch, "cuda", fake)
    yield
    of_cuda._stream.cache_clear()


@pytest.mark.usefixtures("no_card")
def test_a_step_that_cannot_be_captured_says_how_to_do_without():
    def work() -> dict[str, Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(CaptureError, match=r"not permitted .*; step=eager does without it"):
        of_cuda.CudaCapturer().capture(work)


@pytest.mark.usefixtures("no_card")
def test_the_runs_of_a_process_capture_on_one_stream():
    """Memory that cuBLAS took for another one would not come back."""
    assert of_cuda.CudaCapturer()._stream is of_cuda.CudaCapturer()._stream


@pytest.mark.parametrize("longest", [16, 7])
def test_widths_are_multiples_on_a_gpu_and_counted_as_padding(monkeypatch, longest):
    for module in ("data", "loop", "evaluate"):
        monkeypatch.setattr(f"lora2.training.{module}.width_multiple", lambda device: 8 if device == "cpu" else 1)
    model = Mlp()
    run = trainer(model, lora2(model), max_length=longest)
    data = run.data.splits["train"]
    lengths = np.minimum(data.lengths, longest)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    short = TokenisedSplit(data.input_ids[: offsets[-1]], None, offsets, data.labels)
    run = replace(run, data=replace(run.data, splits=dict.fromkeys(run.data.splits, short)))
    shapes: list[tuple[bool, int, int]] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append((torch.is_grad_enabled(), *kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    state = run.fit()
    assert {width for _, _, width in shapes} == {min(8, longest)}
    assert state.padded_tokens == sum(rows * width for training, rows, width in shapes if training)
    assert not all(training for training, _, _ in shapes)


# ------------------------------------------------------------------------------------------------ when it is done


def machine(device: str = "cuda", **changes: object) -> SimpleNamespace:
    return SimpleNamespace(**{"device": torch.device(device), "scaler": None, "num_processes": 1, **changes})


@pytest.mark.parametrize(
    ("accelerator", "reason"),
    [
        (machine("cpu"), "there is no GPU"),
        (machine(scaler=object()), "fp16"),
        (machine(num_processes=2), "several processes"),
    ],
    ids=["cpu", "fp16", "processes"],
)
def test_what_cannot_be_captured_is_eager_and_says_so_once(accelerator, reason):
    assert not captures("captured", accelerator)
    (note,) = capture_notes("captured", accelerator)
    assert note.startswith("step=captured: the steps were not captured, because")
    assert reason in note
    assert capture_notes("eager", accelerator) == []
    # nobody expects it where there is no GPU
    assert len(capture_notes("auto", accelerator)) == (accelerator.device.type == "cuda")


def test_a_gpu_captures_unless_told_otherwise():
    assert [captures(kind, machine()) for kind in ("auto", "captured", "eager")] == [True, True, False]
    assert [capture_notes(kind, machine()) for kind in ("auto", "captured", "eager")] == [[], [], []]


# -------------------------------------------------------------------------------------------------- what diverges


def test_what_is_not_finite_is_found_at_the_next_look():
    watch = FiniteWatch(torch.device("cpu"), every=3)
    for index, norm in enumerate([1.0, 2.0, 3.0, 1.0, float("inf")], start=10):
        watch.note(torch.tensor(norm))
        watch.passed(index, torch.tensor(0.5))
    with pytest.raises(DivergedError, match=r"one of the steps 13 to 14: .*not finite, last task loss 0\.5"):
        watch.look()


def test_a_look_comes_by_itself():
    watch = FiniteWatch(torch.device("cpu"), every=2)
    watch.note(torch.tensor(float("nan")))
    watch.passed(0, torch.tensor(1.0))
    watch.note(torch.tensor(1.0))
    with pytest.raises(DivergedError, match="one of the steps 0 to 1"):
        watch.passed(1, torch.tensor(2.0))


def test_on_a_cpu_the_step_itself_is_named():
    watch = FiniteWatch(torch.device("cpu"))
    watch.note(torch.tensor(1.0))
    watch.passed(4, torch.tensor(1.0))
    watch.note(torch.tensor(float("nan")))
    with pytest.raises(DivergedError, match=r"^step 5: the gradient is not finite, task loss 2; lower recipe.lr"):
        watch.passed(5, torch.tensor(2.0))


def test_a_run_that_diverges_unseen_fails_before_it_is_evaluated():
    model = Mlp()
    run = trainer(model, Subset(model, "head"), max_steps=8, eval_every=8, epochs=4)
    eager = run.build_step()
    assert isinstance(eager, TrainStep)
    seen = []
    step = TrainStep(**{**vars(eager), "watch": FiniteWatch(torch.device("cpu"), every=1000)})
    backward = TrainStep._backward

    def poisoned(self: TrainStep, part: MicroBatch, size: int, clock: PhaseClock) -> Tensor:
        loss = backward(self, part, size, clock)
        seen.append(loss)
        if len(seen) == 8:  # of the last step: no loss shows it
            next(iter(run.method.groups[-1].parameters.values())).grad.fill_(torch.nan)
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainStep, "_backward", poisoned)
        patch.setattr(Trainer, "_is_read", lambda self, steps: self._is_evaluated(steps))  # as seldom as on a GPU
        patch.setattr("lora2.training.evaluate.Evaluator.score", lambda *_: pytest.fail("evaluated"))
        with pytest.raises(DivergedError, match="one of the steps 0 to 7: the gradient is not finite"):
            fit(run, step)


# ------------------------------------------------------------------------------------ what a graph cannot record


def on_meta(kind: str, mend: Callable[[nn.Module], None]) -> tuple[nn.Module, dict[str, Tensor]]:
    """A mended model in training mode on the device that holds nothing, and a batch there."""
    model = encoder(kind, dropout=0.1).train()
    mend(model)
    return model.to("meta"), {name: tensor.to("meta") for name, tensor in tokens().items()}


@pytest.fixture
def no_autocast() -> Iterator[None]:
    with without_autocast():
        yield


@pytest.mark.usefixtures("no_autocast")
@pytest.mark.parametrize("kind", KINDS)
def test_a_mended_model_needs_nothing_of_the_host(kind):
    """No longer enough: a mend of captured/forward.py is missing for this version of transformers."""
    model, inputs = on_meta(kind, make_capturable)
    model(**inputs)  # the first pass of a width makes what is kept
    with NoHostUse():
        model(**inputs).logits.sum().backward()


@pytest.mark.parametrize(
    ("kind", "where"),
    [("bert", "masking_utils"), ("roberta", "masking_utils"), ("mpnet", "masking_utils"), ("deberta-v2", "make_log")],
)
def test_without_the_mends_a_model_needs_the_host(kind, where):
    """No longer needed: the mend for this model can go from captured/forward.py."""
    model, inputs = on_meta(kind, lambda model: None)
    model.eval()
    with torch.no_grad():
        model(**{**inputs, "attention_mask": None} if kind != "deberta-v2" else inputs)
    # RuntimeError: 5.17's is a function of TorchScript, whose interpreter says so itself
    with pytest.raises((HostUse, RuntimeError), match=where), NoHostUse():
        model(**inputs)


def test_the_mend_of_mpnets_bias_is_for_versions_that_are_still_allowed():
    """transformers 5.17 needs it; when older ones than 5.23 are no longer allowed it can go."""
    dependencies = tomllib.loads((runs.ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert "transformers>=5.17" in dependencies


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mended_model_computes_the_same(kind, padded):
    inputs = tokens()
    if not padded:
        inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
    plain, mended = encoder(kind).eval(), encoder(kind).eval()
    make_capturable(mended)
    for _ in range(2):
        got, expected = mended(**inputs).logits, plain(**inputs).logits
        if kind == "deberta-v2":  # the same function in another order: tests/models/test_deberta.py
            torch.testing.assert_close(got, expected)
        else:
            assert torch.equal(got, expected)


def test_only_the_one_model_is_mended():
    mended, other = encoder("deberta-v2"), encoder("deberta-v2")
    make_capturable(mended)
    assert "get_rel_pos" in vars(mended.deberta.encoder)
    assert "get_rel_pos" not in vars(other.deberta.encoder)


class OnMeta:
    """The part of an accelerator that a step's gradients need, on the meta device."""

    device, scaler, num_processes = torch.device("meta"), None, 1

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_grad_norm_(self, parameters: list[Tensor], limit: float) -> Tensor:
        return torch.nn.utils.clip_grad_norm_(parameters, limit)

    def reduce(self, loss: Tensor, how: str) -> Tensor:
        return loss


def gradients_on_meta(model: nn.Module, method: Method) -> None:
    """The captured part of a step, twice; the second time with nothing of the host."""
    parameters = [p for group in method.groups for p in group.parameters.values()]
    watch = FiniteWatch(torch.device("meta"), every=100)
    step = TrainStep(
        accelerator=OnMeta(),  # type: ignore[arg-type]
        model=model,
        optimizer=torch.optim.SGD(parameters, lr=0.1),
        method=method,
        task=trainer(Mlp(), None).data.task,
        max_grad_norm=1.0,
        watch=watch,
    )
    data = split(4)
    part = MicroBatch(collate(data, np.arange(4), pad_id=0)).to(torch.device("meta"))
    step.gradients([part], 4, PhaseClock({}))
    with NoHostUse():
        step.optimizer.zero_grad(set_to_none=False)
        _, norm = step.gradients([part], 4, PhaseClock({}))
        watch.note(norm)


@pytest.mark.usefixtures("no_autocast")
@pytest.mark.parametrize("name", METHODS)
def test_the_captured_part_of_a_step_needs_nothing_of_the_host(name):
    model = encoder("deberta-v2", dropout=0.1).train()
    make_capturable(model)
    gradients_on_meta(model.to("meta"), apply(name, model))


@pytest.mark.usefixtures("no_autocast")
@pytest.mark.parametrize("name", PEERS)
def test_so_does_that_of_every_peer_of_the_benchmark(name):
    model = encoder("bert", dropout=0.1).train().to("meta")
    make_capturable(model)
    gradients_on_meta(model, PEERS[name](model))
