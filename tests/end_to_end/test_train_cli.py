"""scripts/train.py as a user meets it: records, skipping, the same numbers twice; mistakes are in test_bad_inputs."""

import json
import re
from pathlib import Path

import pytest
import torch
from helpers.clocks import without_clocks
from helpers.runs import CONFIGS, TINY, command, compose, folders
from safetensors.torch import load_file

from lora2.common.errors import UserError
from lora2.config.resolve import resolve
from lora2.config.schedule import settle_budget
from lora2.core.layers import LoRA2Linear
from lora2.runs.record import RunRecord, read_record
from lora2.training.run import run, run_composed

# ------------------------------------------------------------------------------------------------------- one run


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, Path, RunRecord]:
    """A finished run of this process: its folder, the record's path and the record."""
    path = tmp_path_factory.mktemp("run")
    words = [*TINY, *folders(path)]
    assert run_composed(compose(*words), words, CONFIGS) == 0
    (file,) = (path / "results" / "runs").glob("*.json")
    return path, file, read_record(file)


def test_the_record_holds_what_the_tables_need(done):
    file = done[1]
    data = json.loads(file.read_text())
    assert (data["schema_version"], data["status"], data["error"]) == (1, "ok", None)
    assert data["run_id"] == file.stem
    assert file.stem.startswith("tiny-rte-lora2_k1-s0-")
    config = data["config"]
    assert [config[key] for key in ("model", "task", "method", "seed", "variant", "recipe", "data", "experiment")] == [
        "tiny", "rte", "lora2", 0, "lora2_k1", "short", "demo", "adhoc",
    ]  # fmt: skip
    assert config["resolved"]["rank"] == {"k": 1, "r": 8, "alpha": 16.0}
    assert set(data["metrics"]["best"]) == set(data["metrics"]["last"]) == {"accuracy"}
    assert data["metrics"]["main"] == "accuracy"
    assert set(data["counts"]) == {"adapter", "active_adapter", "head", "backbone"}
    assert data["synthetic"] is True
    assert data["model_random_init"] is True
    checks = ("budget_met", "frozen_weights_unchanged", "merged_equals_unmerged", "exported_equals_unmerged")
    assert data["checks"] == dict.fromkeys(checks, True)
    assert 0 <= data["padding_share"] == pytest.approx(1 - data["tokens"] / data["padded_tokens"])
    assert data["timing"]["tokens_per_s"] > 0
    assert sum(data["timing"]["shares"].values()) == pytest.approx(1)
    assert {"data", "frozen_weights"} <= set(data["hashes"])
    assert {"git_commit", "packages", "device", "date"} <= set(data["provenance"])
    assert "budget.scale=auto: 4 steps" in " ".join(data["notes"])


def test_the_record_counts_ranks_and_parameters(done):
    record = done[2]
    shapes = {"query": 64, "key": 64, "value": 64, "attn_output": 64, "ffn_w1": 96, "ffn_w2": 96}  # d + o at width 32
    assert set(record.ranks) == {f"layer.{i}.{name}" for i in range(2) for name in shapes}
    assert sum(record.ranks.values()) == 12 * 4  # budget.target_rank of the short recipe
    assert {name: mask.count("1") for name, mask in record.masks.items()} == record.ranks
    assert record.counts.adapter == 2 * sum(shapes.values()) + 12 * (2 * 8 + 8)
    active = sum(shapes[name.split(".")[-1]] + 3 * rank for name, rank in record.ranks.items() if rank)
    assert record.counts.active_adapter == active
    assert record.counts.head == 32 * 32 + 32 + 32 * 2 + 2


def test_the_record_tells_task_loss_and_regularisers_apart(done):
    history = done[2].history
    assert [row["step"] for row in history["train"]] == [1, 2, 3, 4]
    assert all(
        set(row) == {"step", "lr", "loss/task", "loss/orth_uv", "loss/orth_UV", "loss/orth_PQ"}
        for row in history["train"]
    )
    assert [set(row) - {"selection"} for row in history["eval"]] == [{"step", "accuracy"}]


def test_the_record_follows_ranks_and_regularisers_over_training(done):
    rows = done[2].history["monitor"]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    ranks = {f"rank/{matrix}": rank for matrix, rank in done[2].ranks.items()}
    assert ranks.items() <= rows[-1].items()
    assert all(row["budget"] == sum(row[name] for name in ranks) for row in rows)
    assert rows[0]["budget"] >= rows[-1]["budget"] == 12 * 4
    gamma = done[2].config.resolved["method"]["penalty"]["weight"]
    for before, after in zip(
        rows, done[2].history["train"][1:], strict=False
    ):  # a loss is of the weights before its step
        for term in ("uv", "UV", "PQ"):
            assert gamma * before[f"monitor/orth_{term}"] == pytest.approx(after[f"loss/orth_{term}"], rel=1e-6)
    assert all(0 < row["monitor/cosine_PQ"] < 1 for row in rows)


def test_the_trained_weights_are_saved_best_and_last(done):
    path, _, record = done
    folder = path / "outputs" / record.run_id
    last = load_file(folder / "last.safetensors")
    assert sum(tensor.numel() for tensor in last.values()) == record.counts.adapter + record.counts.head
    assert load_file(folder / "best.safetensors").keys() == last.keys()
    alive = sum(int(tensor.count_nonzero()) for name, tensor in last.items() if name.endswith(".lam"))
    assert alive == sum(record.ranks.values())


def test_no_temporary_file_is_left(done):
    assert [file.name for file in done[1].parent.iterdir()] == [done[1].name]


@pytest.fixture
def count(monkeypatch) -> list[str]:
    """Names of the runs that are really executed; they end at once with the record of `done`."""
    import lora2.training.session

    executed: list[str] = []

    def execute(cfg, raw, *, run_id, **rest):
        executed.append(run_id)
        return RunRecord.model_validate({**RECORD[0], "run_id": run_id})

    monkeypatch.setattr(lora2.training.session, "execute", execute)
    return executed


RECORD: list[dict[str, object]] = []


def test_a_finished_run_is_skipped_and_force_runs_it_again(done, count, capsys):
    path, file, record = done
    RECORD[:] = [record.model_dump()]
    before = file.read_bytes()
    assert run(resolve(compose(*TINY, *folders(path)))) == 0
    assert count == []
    assert "done already" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert run(resolve(compose(*TINY, *folders(path), "force=true"))) == 0
    assert run(resolve(compose(*TINY, *folders(path), "seed=1"))) == 0
    assert [name == record.run_id for name in count] == [True, False]


@pytest.mark.parametrize("status", ["failed", "oom", "cancelled"])
def test_an_unfinished_run_is_run_again(done, count, tmp_path, status):
    record = done[2]
    RECORD[:] = [record.model_dump()]
    target = tmp_path / "results" / "runs" / f"{record.run_id}.json"
    target.parent.mkdir(parents=True)
    target.write_text(record.model_copy(update={"status": status}).model_dump_json())
    assert run(resolve(compose(*TINY, *folders(tmp_path)))) == 0
    assert count == [record.run_id]


def test_a_damaged_record_is_named_not_overwritten(done, count, tmp_path):
    target = tmp_path / "results" / "runs" / done[1].name
    target.parent.mkdir(parents=True)
    target.write_text(done[1].read_text()[:-20])
    with pytest.raises(UserError, match=re.escape(str(target))):
        run(resolve(compose(*TINY, *folders(tmp_path))))
    assert count == []


def test_the_same_command_twice_gives_the_same_record(done, tmp_path):
    """Once in this process, once in another one; dropout is on."""
    path, file, record = done
    threads = str(torch.get_num_threads())
    process = command(*TINY, *folders(tmp_path), cwd=tmp_path, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    assert process.returncode == 0, process.stderr
    again = read_record(tmp_path / "results" / "runs" / file.name)
    mine, theirs = without_clocks(record), without_clocks(again)
    for resolved in (mine["config"]["resolved"], theirs["config"]["resolved"]):
        assert resolved.pop("results_dir")
        assert resolved.pop("output_dir")
    assert json.dumps(mine, sort_keys=True) == json.dumps(theirs, sort_keys=True)
    for name in ("best", "last"):
        first, second = (
            load_file(root / "outputs" / record.run_id / f"{name}.safetensors") for root in (path, tmp_path)
        )
        assert all(torch.equal(first[key], second[key]) for key in first)


# ---------------------------------------------------------------------------------------------- runs that go wrong


def only_record(path: Path) -> RunRecord:
    (file,) = (path / "results" / "runs").glob("*.json")
    return read_record(file)


def test_a_loss_that_is_not_a_number_leaves_a_failed_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lora2.training.step.task_loss", lambda task, logits, labels: logits.sum(-1) * float("nan"))
    assert run(resolve(compose(*TINY, *folders(tmp_path)))) == 1
    record = only_record(tmp_path)
    assert record.status == "failed"
    assert re.search(r"step 0: .*not finite", record.error)
    assert {"diverged", "shortened"} <= set(record.caveats)
    assert (record.metrics, record.counts, record.timing) == (None, None, None)
    assert record.provenance
    assert "failed" in capsys.readouterr().err


def test_a_model_that_diverges_in_its_last_step_leaves_a_failed_record(tmp_path):
    """Loss and gradient were finite; only the evaluation sees that the weights are not."""
    assert run(resolve(compose(*TINY, *folders(tmp_path), "recipe.max_steps=1", "recipe.lr=1e38", "budget=none"))) == 1
    record = only_record(tmp_path)
    assert record.status == "failed"
    assert "diverged" in record.caveats


def test_scores_that_are_not_finite_leave_a_failed_record(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "lora2.core.allocator.update_importance",
        lambda smoothed, uncertainty, *rest: (smoothed[0].fill_(torch.inf), uncertainty[0].fill_(1)),
    )
    assert run(resolve(compose(*TINY, *folders(tmp_path)))) == 1
    record = only_record(tmp_path)
    assert record.status == "failed"
    assert "importance scores are not finite" in record.error
    assert "diverged" in record.caveats


def test_running_out_of_memory_leaves_a_record(tmp_path, monkeypatch):
    def fit(self, found):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr("lora2.training.loop.Trainer.fit", fit)
    assert run(resolve(compose(*TINY, *folders(tmp_path)))) == 1
    assert only_record(tmp_path).status == "oom"


def test_a_check_that_fails_makes_the_run_failed(tmp_path, monkeypatch):
    right = LoRA2Linear.lora_weights
    monkeypatch.setattr(LoRA2Linear, "lora_weights", lambda layer: tuple(-9 * x for x in right(layer)))
    assert run(resolve(compose(*TINY, *folders(tmp_path)))) == 1
    record = only_record(tmp_path)
    assert (record.status, record.error) == ("failed", "checks failed: exported_equals_unmerged")


def test_a_missed_final_budget_leaves_a_failed_record(tmp_path, monkeypatch):
    monkeypatch.setattr("lora2.core.allocator.RankAllocator.mask", lambda self, step: 0)
    assert run(resolve(compose(*TINY, *folders(tmp_path)))) == 1
    record = only_record(tmp_path)
    assert record.status == "failed"
    assert "final budget missed" in record.error


def test_what_was_given_and_does_nothing_is_in_the_record(tmp_path):
    given = ("method=lora", "rank.k=4", "recipe.max_steps=4", "recipe.epochs=1", "recipe.batch_size=512")
    done = command(*TINY, *folders(tmp_path), *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    notes = only_record(tmp_path).notes
    for name in ("rank.k: given, but without effect here (not used by lora)", "recipe.max_steps=4: given, but without"):
        assert sum(note.startswith(name) for note in notes) == 1
        assert f"note: {name}" in done.stderr


# ------------------------------------------------------------------------------------------------------ the budget


def test_a_schedule_that_does_not_fit_is_scaled_and_noted_or_refused(tmp_path):
    cfg = resolve(compose(*TINY, *folders(tmp_path), "recipe.max_steps=30"))
    scaled, (note,) = settle_budget(cfg, 1024)
    assert note == f"budget.scale=auto: 30 steps, so t_i 600 -> {scaled.budget.t_i} and t_f 1800 -> {scaled.budget.t_f}"
    assert scaled.budget.t_i + scaled.budget.t_f <= 20
    strict = resolve(compose(*TINY, *folders(tmp_path), "recipe.max_steps=30", "budget.scale=strict"))
    with pytest.raises(UserError, match=r"budget\.t_i=600 and budget\.t_f=1800 do not fit into the 30 optimizer steps"):
        settle_budget(strict, 1024)
    fits = resolve(compose(*TINY, *folders(tmp_path), "recipe.max_steps=30", "budget.t_i=3", "budget.t_f=4"))
    assert settle_budget(fits, 1024) == (fits, [])


def test_a_run_too_short_for_any_budget_is_refused_before_torch_is_needed(tmp_path):
    """One step has no room for a decay and a last phase, however they are scaled."""
    cfg = resolve(compose(*TINY, *folders(tmp_path), "recipe.max_steps=1"))
    with pytest.raises(UserError, match=r"budget\.") as error:
        settle_budget(cfg, 1024)
    assert "or budget.scale=auto" not in str(error.value)  # it is on already
