"""What a run costs: the formulas against small cases worked by hand, lengths, calibration, and the command."""

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from helpers import runs
from helpers.fake_records import TIMING, record
from helpers.runs import compose_without_hydra as compose
from helpers.runs import expand
from transformers import AutoConfig, AutoModelForSequenceClassification

from lora2.common.errors import UserError
from lora2.config.resolve import resolve
from lora2.config.schema import RunConfig
from lora2.experiments.cost.estimate import as_json, as_table, estimate, gpu, hours, this_device
from lora2.experiments.cost.lengths import Lengths, lengths, measure, measured_path, padded, stored
from lora2.experiments.cost.plan import (
    adapter_weights,
    cost,
    eval_flops,
    linear_weights,
    peak_memory,
    relative_positions,
    train_flops,
)
from lora2.experiments.cost.speed import PROBE_STEPS, Speed, calibrate, gpu_names, gpu_speed, probe_overrides, probes
from lora2.experiments.run_process import Ended
from lora2.experiments.status import survey
from lora2.glue.batches import epoch_batches, padding_share
from lora2.runs.reader import Run, parse_run
from scripts import experiment

SMALL = {
    "num_hidden_layers": 2, "hidden_size": 4, "intermediate_size": 8, "num_attention_heads": 2,
    "vocab_size": 10, "max_position_embeddings": 6,
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def settings(*overrides: str, **architecture: object) -> RunConfig:
    """A run of a two-layer BERT with d=4 and f=8, whose N is 2 · (4·16 + 2·32) = 256."""
    cfg = resolve(compose(["model=minilm", "recipe.precision=fp32", *overrides]))
    return cfg.model_copy(update={"model": cfg.model.model_copy(update={"architecture": {**SMALL, **architecture}})})


# ---------------------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    ("overrides", "adapter"),
    [
        (["method=full"], 0),
        (["method=head"], 0),
        (["method=bitfit"], 0),
        (["method=lora", "rank.r=3"], 2 * 3 * (4 * 8 + 2 * 12)),  # r (d + o): four of 4+4, two of 4+8
        (["method=lora", "rank.r=3", "method.targets=qv"], 2 * 3 * 2 * 8),
        (["method=adalora", "rank.r=8"], 2 * 8 * 56),
        (["method=sora", "rank.r=2"], 2 * 2 * 56),
        (["rank.k=2", "rank.r=8"], 2 * 2 * 56),  # LoRA²: k, not r
        (["method=houlsby", "method.bottleneck=5"], 2 * 2 * 2 * 4 * 5),
        (["method=pfeiffer", "method.bottleneck=5"], 2 * 2 * 4 * 5),
    ],
)
def test_adapter_weights_by_hand(overrides, adapter):
    cfg = settings(*overrides)
    assert linear_weights(cfg) == 256
    assert adapter_weights(cfg) == adapter


def test_arithmetic_by_hand():
    positions, squares = 10, 50  # two examples of 5 tokens
    attention = 4 * 2 * 4 * squares
    linear = 2 * 256 * positions
    assert train_flops(settings("method=head"), 1, positions, squares) == linear + attention
    assert train_flops(settings("method=bitfit"), 1, positions, squares) == 2 * linear + 3 * attention
    assert train_flops(settings("method=full"), 1, positions, squares) == 3 * linear + 3 * attention
    lora = settings("method=lora", "rank.r=3")
    assert train_flops(lora, 1, positions, squares) == 2 * linear + 3 * attention + 6 * 336 * positions
    assert eval_flops(lora, 1, positions, squares) == linear + attention + 2 * 336 * positions
    assert eval_flops(settings(), 1, positions, squares) == linear + attention  # merged


def test_relative_positions_by_hand():
    cfg = settings("method=bitfit", relative_attention=True, position_buckets=3)
    plain = settings("method=bitfit")
    assert relative_positions(cfg) == 6
    assert relative_positions(plain) == 0
    forward = 4 * 2 * 4 * 6 * 10 + 7 * 4 * 2 * 16 * 6  # 10 positions; projections in 7 batches
    assert eval_flops(cfg, 7, 10, 50) - eval_flops(plain, 7, 10, 50) == forward
    extra = 3 * 4 * 2 * 4 * 6 * 10 + 2 * 7 * 4 * 2 * 16 * 6
    assert train_flops(cfg, 7, 10, 50) - train_flops(plain, 7, 10, 50) == extra


@pytest.mark.parametrize("name", ["minilm", "tiny"])
def test_linear_weights_are_those_of_the_model(name):
    cfg = resolve(compose([f"model={name}"]))
    model = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model(cfg.model.model_type, **cfg.model.architecture)
    )
    assert linear_weights(cfg) == sum(p.numel() for n, p in model.named_parameters() if ".layer." in n and p.ndim == 2)


def test_memory_by_hand():
    cfg = settings("method=full", "recipe.batch_size=4", "recipe.accumulation=2")
    weights = 256 + (10 + 6) * 4
    activations = 2 * (2 * (3 * 4 * 34 + 5 * 2 * 9)) * 2  # two examples of 3 tokens, two layers, float32
    assert peak_memory(cfg, 3) == 0.5e9 + 4 * weights + 12 * weights + activations
    half = cfg.model_copy(update={"recipe": cfg.recipe.model_copy(update={"precision": "bf16"})})
    assert peak_memory(cfg, 3) - peak_memory(half, 3) == activations / 2


# -------------------------------------------------------------------------------------------------------------- lengths


def test_padding_is_that_of_the_batches():
    tokens = np.random.default_rng(0).integers(4, 90, 1003)
    for grouped in (True, False):
        batches = epoch_batches(tokens, 8, seed=0, epoch=0, group_by_length=grouped)
        real = tokens.sum() / (1 - padding_share(tokens, batches))
        positions, squares = padded(tokens, 8, grouped=grouped, width=None)
        assert positions == pytest.approx(real, rel=0.02)
        assert squares >= positions**2 / len(tokens)
    assert padded(tokens, 8, grouped=True, width=100) == (100_300, 10_030_000)
    assert padded(np.array([3, 1, 2]), 2, grouped=True, width=None) == (2 * 2 + 3, 2 * 4 + 9)


def test_stored_lengths_have_the_official_number_of_rows():
    assert len(stored("mnli", 256).train) == 392_702
    assert len(stored("mnli", 256).dev) == 9_815 + 9_832
    assert stored("mrpc", 320).train.mean() == pytest.approx(53.2, abs=0.5)
    assert stored("rte", 64).train.max() == 64


def test_data_at_hand_is_measured_once():
    cfg = resolve(compose(["model=tiny", "data=demo", "task=rte"]))
    assert lengths(cfg).source == "measured"
    measure([cfg, cfg])
    known = lengths(cfg)
    assert known.source == "measured here"
    before = measured_path(cfg).stat().st_mtime_ns
    measure([cfg])
    assert measured_path(cfg).stat().st_mtime_ns == before


def test_data_that_cannot_be_read_is_a_user_error(tmp_path):
    cfg = resolve(compose(["model=tiny", "data=local", f"data.dir={tmp_path}", "task=rte"]))
    with pytest.raises(UserError, match="cannot be measured"):
        measure([cfg])


# ----------------------------------------------------------------------------------------------------------- whole runs


def test_steps_and_tokens_of_a_script():
    what = cost(resolve(compose(["recipe=authors", "task=mrpc", "data=hub", "model=deberta_v3_base"])))
    assert (what.steps, what.evaluation.batches) == (3450, 12 * math.ceil(408 / 128))
    assert what.tokens == pytest.approx(30 * 3668 * 53.2, rel=0.01)
    assert what.tokens < what.train.padded_tokens < 1.05 * what.tokens
    released = cost(resolve(compose(["recipe=authors", "task=mrpc", "fidelity=released"])))
    assert released.train.padded_tokens == 30 * 3668 * 320


def test_a_held_out_slice_is_not_trained_on():
    plain, held = (
        cost(resolve(compose(["task=rte", "data=hub", f"selection={selection}"]))) for selection in ("dev", "heldout")
    )
    assert held.tokens == pytest.approx(0.9 * plain.tokens, rel=0.01)
    assert held.evaluation.padded_tokens > 1.5 * plain.evaluation.padded_tokens


def test_gpu_hours_by_hand():
    cfg = resolve(compose(["recipe=authors", "task=mrpc", "data=hub"]))
    what, speed = cost(cfg), gpu_speed("A100", "fp32", 0.5)
    assert speed.seconds(what) == pytest.approx(speed.start + (what.train.flops + what.evaluation.flops) / 9.75e12)
    assert gpu_speed("H100", "bf16", 1.0).train_rate == 989e12
    assert set(gpu_names()) == {"A100", "H100", "RTX4090", "V100", "L4"}
    with pytest.raises(UserError, match="choose one of A100, H100"):
        gpu_speed("A1000", "fp32", 0.5)
    with pytest.raises(UserError, match="V100 has no bf16"):
        gpu_speed("V100", "bf16", 0.5)


def timed_run(cfg: RunConfig, speed: Speed, *, device: str = "cpu", date: str = "2026-01-01", **changes: Any) -> Run:
    """A run that went exactly at `speed`."""
    what = cost(cfg)
    train = what.steps * speed.overhead + what.train.flops / speed.train_rate
    evaluated = what.evaluation.flops / speed.eval_rate
    clocks = {"train_s": train, "eval_s": evaluated, "wall_s": speed.start + train + evaluated}
    fields: dict[str, Any] = {
        "steps": what.steps,
        "padded_tokens": what.train.padded_tokens,
        "resolved": cfg.model_dump(mode="json"),
        "timing": {**TIMING, **clocks, "seconds_per_step": train / what.steps},
        "provenance": {"device": device, "date": date},
    }
    return parse_run(record(**{**fields, **changes}))


def test_two_probes_give_overhead_and_rate():
    true = Speed(0.2, 5e10, 8e10, 6.0, "")
    short, long, between = (resolve(compose([f"task={task}", "data=hub"])) for task in ("cola", "rte", "mrpc"))
    known = [timed_run(short, true), timed_run(long, true)]
    found = calibrate(known, between)
    assert found is not None
    assert found.seconds(cost(between)) == pytest.approx(true.seconds(cost(between)), rel=0.1)
    assert found.start == pytest.approx(6.0)
    one = calibrate(known[1:], long)
    assert one is not None
    assert one.overhead == 0
    assert one.seconds(cost(long)) == pytest.approx(true.seconds(cost(long)), rel=0.05)


def test_only_runs_of_the_kind_and_of_the_last_device_count():
    cfg = resolve(compose(["task=rte", "data=hub"]))
    slow, fast = Speed(0, 1e9, 1e9, 1, ""), Speed(0, 1e12, 1e12, 1, "")
    other = resolve(compose(["task=rte", "data=hub", "method=full"]))
    assert calibrate([timed_run(other, slow)], cfg) is None
    assert calibrate([timed_run(cfg, slow, status="failed")], cfg) is None
    found = calibrate([timed_run(cfg, slow), timed_run(cfg, fast, device="gpu", date="2026-02-02")], cfg)
    assert found is not None
    assert found.train_rate == pytest.approx(1e12, rel=0.05)
    assert found.source == "1 runs on gpu"
    assert calibrate([timed_run(cfg, fast, resolved={"old": 1})], cfg) is None


def test_probes_are_the_shortest_and_the_longest_of_each_method():
    chosen = probes(expand("table1", ["row=lora_r1,lora_r8,bitfit", "data=hub"], seeds=2))
    assert [(job.cfg.method.name, job.cfg.task) for job in chosen] == [
        ("lora", "cola"), ("lora", "rte"), ("bitfit", "cola"), ("bitfit", "rte"),
    ]  # fmt: skip
    assert [job.cfg.task for job in probes(expand("table1", ["task=qqp,qnli", "row=bitfit"], seeds=1))] == ["qnli"]
    cfg = resolve(compose(probe_overrides(chosen[0])))
    assert (cfg.recipe.max_steps, cfg.results_dir) == (PROBE_STEPS, "outputs/probe")


def test_the_table_sums_seeds_and_the_json_lists_runs():
    statuses = survey(expand("table4", ["task=rte"], seeds=2))
    estimates = estimate(statuses, gpu("L4", 0.3))
    table = as_table("t", estimates)
    assert [row[:3] for row in table.rows] == [
        ("total", "8", "0"), *((f"method.targets={targets}", "2", "0") for targets in ("qk", "qv", "qkv", "all")),
    ]  # fmt: skip
    data = json.loads(json.dumps(as_json(estimates)))
    assert data["total"]["hours"] == pytest.approx(sum(run["seconds"] for run in data["runs"]) / 3600)
    assert data["total"]["hours_left"] == data["total"]["hours"]
    unknown = estimate(statuses, this_device(statuses))
    assert as_json(unknown)["total"]["hours"] is None
    assert as_table("t", unknown).rows[0][8] == "–"


def test_unknown_times_do_not_add_up():
    assert hours([3600.0, None]) is None
    assert hours([3600.0, 1800.0]) == 1.5


def test_lengths_are_told_apart_by_identity():
    one, two = (Lengths(np.array([n]), np.array([n]), "measured") for n in (1, 9))
    assert one.train_epoch(1, True, None) == (1, 1)
    assert two.train_epoch(1, True, None) == (9, 81)


@pytest.mark.parametrize("code", [0, 1])
def test_plan_probes_first_if_asked_and_tells_of_a_probe_that_failed(code, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(experiment, "start", lambda overrides: started.append(list(overrides)) or Ended(code))
    jobs = expand("table4", ["task=rte,cola"], seeds=1)
    assert experiment.main(["plan", "table4", "task=rte,cola", "--seeds", "1", "--probe"]) == code
    assert started == [probe_overrides(job) for job in probes(jobs)]
    out, err = capsys.readouterr()
    assert out.startswith("### Plan of table4\n")
    assert f"probe 1/{len(started)}: " in err
    assert err.endswith("0 done, 0 running, 0 failed, 8 to do; hours left: unknown\n")


def test_the_command_starts_without_torch():
    code = (
        "import sys; from scripts import experiment;"
        "experiment.main(['plan', 'table3', '--gpu', 'A100', '--json', 'task=rte']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=runs.ROOT, check=True)
    assert json.loads(done.stdout)["total"]["runs"] == 25
