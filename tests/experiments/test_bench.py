"""The benchmark on a toy shape: its naive peer is the same method, its figures add up, its tables misses."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from helpers import runs
from helpers.standin import StandIn
from torch import nn

from lora2.analysis import benchmark
from lora2.analysis.gpu_benchmark import gpu_table
from lora2.common.errors import UserError
from lora2.config.resolve import resolve
from lora2.experiments.bench import collect, gpu, growth, measure, padding
from lora2.experiments.bench.gpu import Contender, compare, contenders_of, measure_gpu, sum_kernels
from lora2.experiments.bench.peers import PEERS, SHAPES, Shape, backbone, lora2_peer
from lora2.training.build import build_accelerator
from scripts import bench

TOY = Shape("bert", 32, 2, 4, 48, 4, 8)
CPU = torch.device("cpu")
PEER_NAMES = ("ours", "ours_full_score", "naive", "peft_adalora", "peft_lora", "bitfit", "full")


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(SHAPES, "toy", TOY)


def quiet(text: str) -> None:
    assert text


@torch.no_grad()
def twins() -> tuple[nn.Module, nn.Module, object, object]:
    """Ours and the naive peer on equal backbones, with equal factors and living singular values."""
    models = [backbone(TOY).eval() for _ in range(2)]
    ours, naive = lora2_peer()(models[0]), PEERS["naive"](models[1])
    for factor in (p for stack in ours.adapter.factor_stacks() for p in stack.factors):
        factor.normal_(std=0.3)
    for plain, layer in zip(naive.layers, ours.adapter.layers.values(), strict=True):
        f = layer.stack.factors
        u, v, lam, big_u, big_v = (factor[layer.index] for factor in f)
        for target, source in zip(
            (plain.a, plain.b, plain.e, plain.aa, plain.bb), (v, u, lam[:, None], big_u.T, big_v.T), strict=True
        ):
            target.copy_(source)
    return *models, ours, naive


def test_the_naive_peer_is_the_same_method():
    model, other, ours, naive = twins()
    inputs = measure.make_batch(TOY, CPU).parts[0].inputs
    torch.testing.assert_close(model(**inputs).logits, other(**inputs).logits, rtol=1e-4, atol=1e-5)
    mine, theirs = sum(ours.penalties().values()), naive.penalties()["all"]
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=0)


def test_every_figure_of_latest_json_is_there_and_adds_up(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "memory_in_own_process", lambda peer, shape, dtype: {"ours": 50.0}.get(peer, 100.0))
    result = collect.collect(["toy"], ["fp32", "bf16"], PEER_NAMES, 4, quiet)
    memory = collect.collect_memory(["toy"], ["fp32"], PEER_NAMES, quiet)
    for dtype in ("fp32", "bf16"):
        assert set(result["ratios"]["toy"][dtype]) == set(PEER_NAMES) - {"ours"}
        assert all(0 < ratio < 100 for ratio in result["ratios"]["toy"][dtype].values())
        assert result["to_bitfit"]["toy"][dtype]["bitfit"] == 1
        phases = result["phases"]["toy"][dtype]["ours"]
        share = (phases["penalty"] + phases["method"]) / sum(phases.values())
        assert result["method_share"]["toy"][dtype] == pytest.approx(share)
    assert memory["memory_ratios"]["toy"]["fp32"]["peft_lora"] == 0.5
    assert math.isfinite(result["floor_to_bitfit"]["toy"])
    latest = tmp_path / "latest.json"
    for part in (memory, result):  # in either order: the second keeps what the first measured
        collect.write_steps(part, latest)
    benchmark.write_tables(collect.write_steps({"ratios": {"toy": {"fp64": {"naive": 1.0}}}}, latest), latest)
    result["ratios"]["toy"]["fp64"] = {"naive": 1.0}  # beside what was measured before
    assert (memory | result).items() <= json.loads(latest.read_text()).items()
    assert (tmp_path / "latest.png").stat().st_size > 10_000
    text = benchmark.results_block(tmp_path)
    assert "LoRA² as released" in text
    assert "### Targets" in text


def test_ratios_are_medians_over_rounds():
    assert measure.ratio([1.0, 2.0, 9.0, 2.0], [2.0, 2.0, 3.0, 4.0])["median"] == 0.75
    assert measure.ratio([1.0, 2.0, 9.0, 2.0], [2.0, 2.0, 3.0, 4.0])["fastest"] == 0.5


def test_the_peak_counts_what_the_steps_need(toy):
    assert 0 <= measure.peak_above_backbone("bitfit", "toy", "fp32") < 2**30


def test_targets_say_met_missed_or_not_measured():
    result = {
        "ratios": {"minilm_32x64": {"fp32": {"naive": 0.51, "bitfit": 1.12}}},
        "method_share": {"deberta_16x64": {"fp32": 0.031}},
        "floor_to_bitfit": {"minilm_32x64": 1.05},
        "to_bitfit": {"minilm_32x64": {"fp32": {"naive": 2.0, "bitfit": 1.0}}},
    }
    rows = {
        line.split("|")[1].strip(): line
        for line in benchmark.thresholds_table(result).splitlines()
        if line.startswith("| ")
    }
    assert "0.510 > 0.50, missed** [0.525]" in rows["ours / LoRA² as released"]
    assert "1.120 ≤ 1.12 [1.050]" in rows["ours / BitFit"]
    assert rows["ours / LoRA r=8 (PEFT)"].endswith("| – | – |")
    assert "**0.031 > 0.03, missed**" in rows["regulariser, importance, masks: share of our step"]


def test_growth_varies_one_setting_at_a_time(monkeypatch):
    monkeypatch.setattr(growth, "BASE", TOY)
    monkeypatch.setattr(growth, "AXES", {"k": (1, 2), "r": (4,), "batch": (2,), "length": (4,), "layers": (1,)})
    result = growth.growth(4, quiet)
    assert {axis: [point[axis] for point in points] for axis, points in result["axes"].items()} == {
        "k": [1, 2], "r": [4], "batch": [2], "length": [4], "layers": [1],
    }  # fmt: skip
    assert growth._point("layers", 1)[0].layers == 1
    assert growth._point("r", 4)[1:] == (8, 4)
    assert "How the cost grows" in benchmark.growth_table(result)


def test_padding_counts_the_padded_tokens_of_the_whole_recipe(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    short = [
        "model=tiny",
        "task=mrpc",
        "recipe=authors",
        "rank=k8",
        "data=demo",
        "recipe.max_length=64",
        "recipe.epochs=200",
    ]
    monkeypatch.setattr(padding, "_settings", lambda *_: resolve(runs.compose_without_hydra(short)))
    monkeypatch.setattr(padding, "STEPS", 2)
    row = padding.compare_padding("mrpc", "demo", None, runs.CONFIGS, quiet)
    padded = row["padded_tokens_per_epoch"]
    assert padded["released"] % 64 == 0
    assert row["tokens_per_epoch"] < padded["ours"] < padded["released"]
    assert row["padded_tokens_ratio"] == padded["released"] / padded["ours"]
    assert 0 < row["eval_share"] < 1
    assert "| mrpc (demo) | 64 |" in benchmark.padding_table([row])


# ------------------------------------------------------------------------------------------------------- on a GPU


def test_contenders_take_turns_and_captured_ones_are_replayed():
    """On a CPU, with a stand-in for CUDA graphs; test_on_a_gpu.py does it on a card."""
    capturers = []

    def new_capturer() -> StandIn:
        capturers.append(StandIn())
        return capturers[-1]

    contenders = [Contender("ours", "eager"), Contender("ours", "captured"), Contender("bitfit", "captured")]
    rows = compare(TOY, contenders, build_accelerator("bf16"), new_capturer, 4, quiet)
    assert [(row["method"], row["step"]) for row in rows] == [(each.method, each.step) for each in contenders]
    assert len(capturers) == 2
    for capturer in capturers:
        assert capturer.calls[:4] == ["warm up", "warm up", "capture", "replay"]
        assert capturer.calls[-1] == "release"
    assert rows[1]["ours"] == 1
    assert all(row["ms_q1"] <= row["ms"] <= row["ms_q3"] for row in rows)


def test_only_what_a_run_of_ours_would_be_is_deterministic(monkeypatch):
    seen: dict[bool, list[bool]] = {}
    make = gpu.make_runner

    def noted(*args: object, deterministic: bool, **options: object) -> object:
        runner = make(*args, deterministic=deterministic, **options)
        modes = seen.setdefault(deterministic, [])
        runner.train_step.model.register_forward_pre_hook(
            lambda module, inputs: modes.append(torch.are_deterministic_algorithms_enabled())
        )
        return runner

    monkeypatch.setattr(gpu, "make_runner", noted)
    contenders = [Contender("ours", step) for step in ("eager", "captured", "fastest")]
    compare(TOY, contenders, build_accelerator("bf16"), StandIn, 4, quiet)
    assert {deterministic: {*modes} for deterministic, modes in seen.items()} == {True: {True}, False: {False}}
    assert len(seen[False]) == 2 * len(seen[True])


def test_only_what_ran_on_the_card_counts_as_a_kernel():
    def event(device: str, microseconds: float) -> SimpleNamespace:
        return SimpleNamespace(device_type=SimpleNamespace(name=device), self_device_time_total=microseconds)

    assert sum_kernels([event("CUDA", 1500.0), event("CPU", 9000.0), event("CUDA", 500.0)]) == (2, 2.0)


def gpu_figures() -> dict[str, object]:
    """Invented figures of one shape: two targets met, one missed, one not measured."""
    rows = [
        {"shape": "minilm_32x64", "method": method, "step": step, "ms": 4.0, "ms_q1": 3.9, "ms_q3": 4.2,
         "kernels": kernels, "busy_ms": 3.0, "ours": ours}
        for method, step, kernels, ours in [
            ("ours", "captured", 690, 1.0), ("peft_lora", "eager", 988, 0.11), ("peft_lora", "captured", 980, 1.02),
            ("ours", "fastest", 690, 1.04),
        ]
    ]  # fmt: skip
    packages = {"torch": "2.11", "transformers": "5.17", "peft": "0.18"}
    return {"provenance": {"device": "an invented card", "packages": packages}, "precision": "bf16", "rows": rows}


def test_the_gpu_table_says_what_is_met_missed_or_not_measured():
    lines = gpu_table(gpu_figures()).splitlines()
    assert "| minilm_32x64 | LoRA r=8 (PEFT) | eager | 4.0 [3.9, 4.2] | 988 | 3.0 | 0.110 |" in lines
    assert "| minilm_32x64 | ours captured / LoRA r=8 (PEFT) eager | 0.110 ≤ 0.110 |" in lines
    assert "| minilm_32x64 | ours captured / LoRA r=8 (PEFT) captured | **1.020 > 0.950, missed** |" in lines
    assert "| minilm_32x64 | ours captured / AdaLoRA (PEFT) eager | – |" in lines
    assert "| minilm_32x64 | kernels of our step | 690 ≤ 700 |" in lines
    assert "| minilm_32x64 | ours captured / LoRA² (k = r = 8) fastest | 1.040 ≤ 1.100 |" in lines


def test_the_gpu_table_is_a_part_of_the_results_block(tmp_path):
    assert "A step on a GPU" not in benchmark.results_block(tmp_path)
    (tmp_path / "gpu.json").write_text(json.dumps(gpu_figures()))
    assert "### A step on a GPU\n\nan invented card" in benchmark.results_block(tmp_path)


def test_a_large_backbone_has_fewer_contenders():
    assert len(contenders_of("minilm_32x64")) == 15
    assert len(contenders_of("roberta_large_32x128")) == 7


def test_without_a_gpu_the_part_is_refused(tmp_path, capsys):
    with pytest.raises(UserError, match=r"gpu: torch sees no GPU here; .*make install GPU=1"):
        measure_gpu({}, 4, quiet)
    assert bench.main(["gpu", "--output", str(tmp_path)]) == 2
    assert "gpu: torch sees no GPU here" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_mistakes_of_the_command_line(capsys):
    assert bench.main(["step", "--shapes", "huge", "--rounds", "1"]) == 2
    message = capsys.readouterr().err
    assert "parts: got 'step'; choose from steps, memory, padding, growth, gpu" in message
    assert "--shapes: got 'huge'" in message
    assert "--rounds: got 1; give at least 4: --rounds 30" in message
