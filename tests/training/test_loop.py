"""The training loop: a whole run equals the oracle's, in double precision; and what the loop must and must not do."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest
import torch
from helpers import oracle
from helpers.toys import Mlp, encoder, matrix
from helpers.training import BATCH, EXAMPLES, TARGET_RANK, TOTAL, K, R, fit, lora2, recipe, split, trainer
from torch import Tensor, nn

from lora2.config.methods import SubsetMethodConfig
from lora2.glue.batches import epoch_batches
from lora2.glue.tasks import TASKS
from lora2.models.methods.lora2 import LoRA2
from lora2.models.methods.subset import Subset
from lora2.training.evaluate import Evaluator
from lora2.training.finite import DivergedError
from lora2.training.loop import Trainer
from lora2.training.state import TrainState, trained_parameters
from lora2.training.step import task_loss


class Watched:
    """A method that notes the mask and Λ after every step."""

    def __init__(self, method: LoRA2) -> None:
        self.method, self.groups = method, method.groups
        self.masks: list[list[bool]] = []
        self.lam: list[list[list[float]]] = []
        self.penalties, self.merged, self.monitor = method.penalties, method.merged, method.monitor
        self.count_parameters, self.stateful = method.count_parameters, method.stateful

    @contextmanager
    def step(self, step: int, grads_finite: bool) -> Iterator[None]:
        with self.method.step(step, grads_finite):
            yield
        self.masks.append(self.method.allocator.keep.tolist())
        self.lam.append([x.stack.lam[x.index].tolist() for x in self.method.adapter.layers.values()])


# ---------------------------------------------------------------------------------------- the run of the oracle


def reference(model: Mlp, method: LoRA2, settings: oracle.Settings, labels: int) -> oracle.Run:
    """The same run by tests/helpers/oracle.py, from the same start and the same batches."""
    matrices = [matrix(layer) for layer in method.adapter.layers.values()]
    head = {
        name: p.detach().clone()
        for name, p in model.named_parameters()
        if name.startswith(("bert.pooler", "classifier"))
    }
    frozen = {name: p.detach().clone() for name, p in model.named_parameters()}
    data = split(labels=labels)
    plans: list[np.ndarray] = []
    while len(plans) < TOTAL:
        epoch = len(plans) // math.ceil(EXAMPLES / BATCH)
        plans += epoch_batches(data.lengths, BATCH, seed=3, epoch=epoch, group_by_length=False)

    def loss(deltas: list[Tensor], head: dict[str, Tensor], step: int) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for i in plans[step]:
            ids = torch.from_numpy(data.input_ids[data.offsets[i] : data.offsets[i + 1]].astype(np.int64))
            h = frozen["bert.embeddings.weight"][ids].mean(0)
            for n, delta in enumerate(deltas):
                name = f"bert.encoder.layer.{n // 3}.attention.self.{('query', 'key', 'value')[n % 3]}"
                h = torch.tanh((frozen[f"{name}.weight"] + delta) @ h + frozen[f"{name}.bias"])
            h = torch.tanh(head["bert.pooler.weight"] @ h + head["bert.pooler.bias"])
            logits = head["classifier.weight"] @ h + head["classifier.bias"]
            y = data.labels[i]
            total = total + (
                (logits[0] - float(y)) ** 2 if labels == 1 else torch.logsumexp(logits, 0) - logits[int(y)]
            )
        return total / len(plans[step])

    return oracle.train(matrices, head, loss, settings)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"impl": "fused", "accumulation": 3},
        {"score": "full", "form": "norm", "interval": 3},
        {"schedule": "printed", "task": "stsb", "accumulation": 4, "lam": 1.0},
    ],
    ids=["default", "fused accumulated", "full norm interval", "printed regression"],
)
def test_a_whole_run_is_the_oracles(case):
    """Loss, regularisers, masks, Λ, importance and weights of every step: the order within a step cannot be another."""
    case = dict(case)
    accumulation, task = case.pop("accumulation", 1), case.pop("task", "rte")
    model = Mlp(TASKS[task].num_labels)
    method = lora2(model, **case)
    model.double()
    settings = oracle.Settings(
        total=TOTAL, lr=0.02, alpha=6.0, gamma=0.1,
        target=6 * TARGET_RANK, t_i=2, t_f=4, interval=case.get("interval", 1),
        form=case.get("form", "squared"), full=case.get("score") == "full", kind=case.get("schedule", "released"),
        warmup=2, weight_decay=0.1, max_grad_norm=0.5, lam_lr_scale=case.get("lam", 3.0),
    )  # fmt: skip
    expected = reference(model, method, settings, TASKS[task].num_labels)
    watched = Watched(method)
    state = fit(model, watched, task, accumulation=accumulation)

    assert [row["loss/task"] for row in state.history["train"]] == pytest.approx(expected.losses, rel=1e-5)
    for term in ("uv", "UV", "PQ"):
        ours = [row[f"loss/orth_{term}"] for row in state.history["train"]]
        assert ours == pytest.approx([row[term] for row in expected.penalties], rel=1e-5, abs=1e-12)
    assert watched.masks == expected.masks
    assert len({tuple(mask) for mask in watched.masks}) > 2  # pruning did happen
    torch.testing.assert_close(torch.tensor(watched.lam), torch.tensor(expected.lam), rtol=1e-4, atol=1e-7)
    for layer, m in zip(method.adapter.layers.values(), expected.matrices, strict=True):
        for name, factor in m.named().items():
            torch.testing.assert_close(getattr(layer.stack, name).detach()[layer.index], factor, rtol=1e-5, atol=1e-7)
    parameters = dict(model.named_parameters())
    for name, tensor in expected.head.items():
        torch.testing.assert_close(parameters[name].detach(), tensor, rtol=1e-5, atol=1e-7)
    statistics = method.allocator.stats
    for n, layer in enumerate(method.adapter.layers.values()):
        for name, (smoothed, uncertainty) in statistics[method.allocator.stacks.index(layer.stack)].items():
            naive = expected.importance[f"{n}.{name}"]
            for ours, theirs in ((smoothed, naive.smoothed), (uncertainty, naive.uncertainty)):
                theirs = torch.tensor(theirs, dtype=torch.float64)
                torch.testing.assert_close(ours[layer.index].double().flatten(), theirs, rtol=1e-4, atol=1e-10)


# ------------------------------------------------------------------------------------------------- single promises


def trained(fit_of: Trainer) -> tuple[TrainState, dict[str, Tensor]]:
    state = fit_of.fit()
    return state, {name: p.detach().clone() for name, p in fit_of.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("parts", [3, 4, 8])
def test_accumulated_batches_equal_whole_ones(parts):
    results = []
    for accumulation in (1, parts):
        model = Mlp()
        method = lora2(model)
        model.double()
        results.append(trained(trainer(model, method, accumulation=accumulation)))
    (one, weights_one), (many, weights_many) = results
    assert [row["loss/task"] for row in one.history["train"]] == pytest.approx(
        [row["loss/task"] for row in many.history["train"]], rel=1e-6
    )
    for name, value in weights_one.items():
        torch.testing.assert_close(weights_many[name], value, rtol=1e-9, atol=1e-11)
    assert one.tokens == many.tokens
    assert one.padded_tokens >= many.padded_tokens


def test_a_last_batch_with_fewer_examples_than_parts():
    """9 examples in batches of 8: the last batch has one example and, of four parts, three empty ones."""
    losses = []
    for accumulation in (1, 4):
        model = encoder("bert")
        run = trainer(
            model, lora2(model, targets="all"), batch_size=22, max_steps=TOTAL, epochs=6, accumulation=accumulation
        )
        losses.append([row["loss/task"] for row in run.fit().history["train"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_neither_loss_nor_evaluation_contains_a_regulariser():
    fits = []
    for gamma in (0.0, 100.0):
        torch.manual_seed(0)
        model = Mlp()
        torch.manual_seed(1)
        fits.append(fit(model, lora2(model, gamma=gamma)))
    without, heavy = (state.history["train"] for state in fits)
    assert heavy[0]["loss/task"] == without[0]["loss/task"]
    assert heavy[0]["loss/orth_PQ"] > heavy[0]["loss/task"]
    assert not [name for name in without[0] if "orth" in name]
    for state in fits:
        assert all({"step", "accuracy"} <= set(row) for row in state.history["eval"])
        assert not [name for row in state.history["eval"] for name in row if "loss" in name or "orth" in name]


class Counting:
    """A method that counts what the loop asks of it."""

    def __init__(self, inner: LoRA2 | Subset) -> None:
        self.inner, self.groups, self.stateful, self.log = inner, inner.groups, inner.stateful, []

    def penalties(self) -> dict[str, Tensor]:
        self.log.append("penalties")
        assert torch.is_grad_enabled()
        return self.inner.penalties()

    @contextmanager
    def step(self, step: int, grads_finite: bool) -> Iterator[None]:
        assert grads_finite
        trained = [p for group in self.groups for p in group.parameters.values()]
        assert all(p.grad is not None for p in trained)
        norm = float(torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in trained])))
        assert norm <= 0.5 * (1 + 1e-4)  # clipped already
        before = [p.detach().clone() for p in trained]
        self.log.append(f"before {step}")
        with self.inner.step(step, grads_finite):
            assert all(torch.equal(p, value) for p, value in zip(trained, before, strict=True))
            yield
        self.log.append(f"after {step}")

    def merged(self) -> AbstractContextManager[None]:
        self.log.append("merged")
        return self.inner.merged()

    def monitor(self) -> dict[str, float]:
        return self.inner.monitor()

    def count_parameters(self) -> object:
        return self.inner.count_parameters()


def test_the_order_of_a_run():
    model = Mlp()
    method = Counting(lora2(model))
    fit(model, method, max_steps=3, eval_every=2, accumulation=2, warmup_steps=0)
    step = [["penalties", f"before {i}", f"after {i}"] for i in range(3)]
    assert method.log == [*step[0], *step[1], "merged", *step[2], "merged"]  # regularisers once a step, not once a part


@pytest.mark.parametrize(("every", "steps"), [(5, [5, 10, 12]), (None, [3, 6, 9, 12]), (12, [12]), (100, [12])])
def test_evaluation_every_n_steps_or_epochs_and_always_at_the_end(every, steps):
    model = Mlp()
    state = fit(model, lora2(model), eval_every=every)
    assert [row["step"] for row in state.history["eval"]] == steps
    assert state.last.items() <= state.history["eval"][-1].items()
    assert state.last.keys() == {"accuracy"}
    assert state.steps == TOTAL


def test_best_is_the_first_of_equals_and_its_weights_are_kept(monkeypatch):
    model = Mlp()
    run = trainer(model, lora2(model), eval_every=2)
    scores, seen = iter([0.3, 0.7, 0.5, 0.7, 0.1, 0.7]), []

    def score(self: Evaluator, model: nn.Module) -> tuple[dict[str, float], bool]:
        seen.append({name: p.detach().clone() for name, p in trained_parameters(run.method).items()})
        return {"accuracy": next(scores)}, False

    monkeypatch.setattr(Evaluator, "score", score)
    state = run.fit()
    assert (state.best_step, state.best, state.last) == (4, {"accuracy": 0.7}, {"accuracy": 0.7})
    assert all(torch.equal(value, seen[1][name]) for name, value in state.best_weights.items())
    assert state.best_weights.keys() == seen[1].keys()


@pytest.mark.parametrize("task", ["mnli", "stsb", "cola", "mrpc"])
def test_every_metric_of_a_task_is_reported(task):
    model = Mlp(TASKS[task].num_labels)
    state = fit(model, lora2(model), task, eval_every=12)
    assert tuple(state.last) == TASKS[task].metrics


def test_the_learning_rate_is_linear_with_warm_up_and_scaled_for_lambda(monkeypatch):
    rates: list[list[float]] = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW,
        "step",
        lambda self, *a, **k: (rates.append([g["lr"] for g in self.param_groups]), step(self))[1],
    )
    model = Mlp()
    fit(model, lora2(model, lam=20.0), lr=0.1, warmup_steps=None, warmup_ratio=0.25)
    factors = [min(t / 3, (TOTAL - t) / (TOTAL - 3)) for t in range(TOTAL)]
    assert [row[0] for row in rates] == pytest.approx([0.1 * f for f in factors])
    assert [row[1] for row in rates] == pytest.approx([2.0 * f for f in factors])
    assert len(rates[0]) == 4  # factors, Λ, head weights, head biases


def test_biases_and_norms_do_not_decay():
    from lora2.training.optim import optimizer_groups

    model = encoder("bert")
    groups = optimizer_groups(Subset(model, "full"), recipe(weight_decay=0.3))
    names = {id(p): name for name, p in model.named_parameters()}
    spared = {names[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    assert spared == {name for name in names.values() if name.endswith("bias") or "LayerNorm" in name}
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_losses_are_those_of_torch():
    logits = torch.randn(5, 3)
    labels = torch.tensor([0, 2, 1, 1, 0])
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(task_loss(TASKS["mnli"], logits, labels).mean(), expected)
    scores = torch.rand(5)
    torch.testing.assert_close(task_loss(TASKS["stsb"], logits[:, :1], scores), (logits[:, 0] - scores) ** 2)


def test_padding_is_counted():
    fits = []
    for padding in ("dynamic", "max_length"):
        model = Mlp()
        fits.append(fit(model, lora2(model), padding=padding))
    dynamic, fixed = fits
    assert dynamic.tokens == fixed.tokens
    assert fixed.padded_tokens == 16 * 4 * EXAMPLES
    assert dynamic.tokens < dynamic.padded_tokens < fixed.padded_tokens


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_divergence_is_an_error_that_names_the_step(where, monkeypatch):
    model = Mlp()
    method = lora2(model)
    if where == "loss":
        model.classifier.weight.data.fill_(float("nan"))
    else:
        monkeypatch.setattr(
            LoRA2, "penalties", lambda self: {"uv": method.adapter.factor_stacks()[0].u.sum() * float("inf")}
        )
    with pytest.raises(DivergedError, match=r"step 0: .* lower recipe\.lr"):
        fit(model, method)


def test_a_skipped_step_teaches_the_allocator_nothing():
    model = Mlp()
    method = lora2(model)
    for group in method.groups:
        for p in group.parameters.values():
            p.grad = torch.full_like(p, float("inf"))
    before = {name: t.clone() for name, t in method.allocator.state_dict().items()}
    with method.step(0, grads_finite=False):
        pass
    assert all(torch.equal(t, before[name]) for name, t in method.allocator.state_dict().items())


def test_counts_after_pruning():
    model = Mlp()
    method = lora2(model)
    with pytest.raises(RuntimeError, match="final budget missed"):
        method.count_parameters()
    fit(model, method)
    counts = method.count_parameters()
    shapes = {"query": (6, 6), "key": (6, 5), "value": (5, 6)}
    assert counts.adapter == 2 * sum(K * (d + o) + 2 * K * R + R for d, o in shapes.values())
    assert sum(counts.ranks.values()) == 6 * TARGET_RANK
    active = {name: shapes[name.split(".")[-1]] for name, rank in counts.ranks.items() if rank}
    assert counts.active_adapter == sum(
        K * (d + o) + (2 * K + 1) * counts.ranks[name] for name, (d, o) in active.items()
    )
    assert counts.head == (6 * 4 + 4) + (4 * 2 + 2)
    assert counts.backbone == sum(p.numel() for p in Mlp().parameters()) - counts.head


@pytest.mark.parametrize("rule", ["head", "bitfit", "full"])
def test_subset_methods_train_in_the_same_loop(rule):
    assert SubsetMethodConfig(name=rule).name == rule
    model = Mlp()
    frozen = {n: p.detach().clone() for n, p in model.named_parameters()}
    fit(model, Subset(model, rule), max_steps=3)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, frozen[n])}
    head = {n for n in frozen if n.startswith(("bert.pooler", "classifier"))}
    wanted = {"head": head, "bitfit": head | {n for n in frozen if n.endswith("bias")}, "full": set(frozen)}
    assert moved == wanted[rule]
