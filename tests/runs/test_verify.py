"""Stock libraries, in a process that cannot import lora2, re-derive what runs have recorded; planted faults are caught.

The process loads its libraries once for this whole file.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from glue.conftest import WORDS, make_tokenizer
from helpers.runs import ROOT, compose, folders
from helpers.toys import encoder

from lora2.config.resolve import resolve
from lora2.glue import hub, local
from lora2.glue.data import load_raw
from lora2.glue.tasks import TASKS
from lora2.runs.caveats import caveats_of
from lora2.runs.finished import finished_run
from lora2.runs.places import DEMO, OWN
from lora2.runs.reader import read_run
from lora2.runs.record import Verification
from lora2.runs.verify import job, one_run, worker
from lora2.runs.verify.candidate import Candidate
from lora2.runs.verify.verdict import verification_of
from lora2.training.run import run
from scripts import export as cli

# peft 0.21 asks transformers 5.23 for a name that it will drop
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

WIDE = "+model.architecture.initializer_range=0.3"  # random weights that tell one text from another
QUICK = ("model=tiny", WIDE, "data=demo", "recipe=demo", "recipe.max_steps=6", "recipe.lr=0.003")
RUNS = {
    "lora2_k1": ("task=mrpc", "rank=k1"),
    "lora2_k8": ("task=cola", "rank=k8", "recipe.precision=bf16"),
    "lora": ("task=mnli", "method=lora", "rank.r=3"),
    "adalora": ("task=stsb", "method=adalora", "rank.r=4", "budget.target_rank=2", "recipe.lr=0.05"),
    "adalora_peft": ("task=stsb", "method=adalora", "method.impl=peft", "rank.r=4", "budget.target_rank=2"),
    "sora": ("task=qqp", "method=sora", "rank.r=4", "method.sparse_lambda_2=0.1", "recipe.lr=0.03"),
    "full": ("task=sst2", "method=full"),
    "bitfit": ("task=qnli", "method=bitfit"),
    "head": ("task=rte", "method=head"),
    "houlsby": ("task=rte", "method=houlsby", "method.bottleneck=4"),
}
ODD = ('"one quote', "None", "NA", "a \u2028 line \x85 that goes on", "", ' "all" ', "nan\\t")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The record of a short run of each kind, all in one results folder; never written to by a test."""
    home, records = tmp_path_factory.mktemp("trained"), {}
    for name, overrides in RUNS.items():
        before = set((home / "results" / "runs").glob("*.json"))
        assert run(resolve(compose(*QUICK, *folders(home), *overrides))) == 0
        (records[name],) = set((home / "results" / "runs").glob("*.json")) - before
    return records


@pytest.fixture(scope="module")
def outside() -> Iterator[worker.OutsideProcess]:
    with worker.OutsideProcess() as process:
        yield process


@pytest.fixture
def copied(trained: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """The records in a results folder of the test's own."""
    (tmp_path / "results" / "runs").mkdir(parents=True)
    return {name: shutil.copy(path, tmp_path / "results" / "runs" / path.name) for name, path in trained.items()}


def verify(path: Path, outside: worker.OutsideProcess, which: str = "best") -> Verification:
    record, cfg = finished_run(str(path), path.parent.parent)
    weights = Path(cfg.output_dir) / record.run_id / f"{which}.safetensors"
    return one_run.verify_run(Candidate(path, record, cfg, weights, which), outside, None)  # type: ignore[arg-type]


def edited(path: Path, *keys: str, to: Any) -> None:
    content = part = json.loads(path.read_text())
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = to
    path.write_text(json.dumps(content))


def test_every_method_is_verified_by_the_command_and_its_record_says_so(
    copied: dict[str, Path], outside: worker.OutsideProcess, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.setattr(worker, "OutsideProcess", lambda: nullcontext(outside))
    edited(copied["head"], "metrics", "best", "accuracy", to=0.875)  # a wrong score
    before = {name: json.loads(path.read_text()) for name, path in copied.items()}
    results = str(copied["head"].parent.parent)
    assert cli.main(["verify", "--all", "--results", results]) == 1
    said = capsys.readouterr()
    assert sorted(said.out.split()) == sorted(str(path) for name, path in copied.items() if name != "houlsby")
    assert "10 runs: 0 verified already, 9 to verify, 1 left out" in said.err
    assert "its method, houlsby, so its score cannot be re-derived" in said.err
    for name, path in copied.items():
        content = json.loads(path.read_text())
        result = content.pop("verified")
        assert content == {key: value for key, value in before[name].items() if key != "verified"}
        verdict = {"houlsby": "not verified", "head": "failed"}.get(name, "verified")
        assert verification_of(read_run(path)) == verdict, result
        assert ("verification failed" in caveats_of(json.loads(path.read_text()))) == (verdict == "failed")
        if verdict == "verified":
            assert result["form"] == ("whole" if name in ("full", "bitfit") else "lora")
            assert result["recorded"] == before[name]["metrics"]["best"]
            assert result["metrics"].keys() == result["recorded"].keys()
            assert result["examples"] == 256 * len(TASKS[content["config"]["task"]].dev_splits)
            assert result["packages"].keys() == {"torch", "transformers", "peft", "datasets", "evaluate"}
            if name != "lora2_k8":  # in float32 nothing but last digits may differ
                assert result["metrics"] == pytest.approx(result["recorded"], abs=1e-5)
                assert result["differing"] == 0
    # once more: only what failed is tried again
    assert cli.main(["verify", "--all", "--results", results]) == 1
    said = capsys.readouterr()
    assert "10 runs: 8 verified already, 1 to verify, 1 left out" in said.err
    assert "accuracy 0.8750 is recorded" in said.err
    assert said.out == f"{copied['head']}\n"


def test_a_verified_run_is_done_already_and_keeps_its_name(
    trained: dict[str, Path],
    outside: worker.OutsideProcess,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: Any,
):
    monkeypatch.setattr(worker, "OutsideProcess", lambda: nullcontext(outside))
    shutil.copytree(trained["head"].parents[2] / "results", tmp_path / "results")
    path = tmp_path / "results" / "runs" / trained["head"].name
    assert cli.main(["verify", path.stem, "--which", "last", "--results", str(tmp_path / "results")]) == 0
    content = path.read_text()
    assert json.loads(content)["verified"]["which"] == "last"
    where = (f"results_dir={tmp_path / 'results'}", f"output_dir={trained['head'].parents[2] / 'outputs'}")
    assert run(resolve(compose(*QUICK, *where, *RUNS["head"]))) == 0
    assert f"{path.stem}: done already" in capsys.readouterr().err
    assert path.read_text() == content


def test_a_published_record_is_left_as_it_is(
    copied: dict[str, Path], outside: worker.OutsideProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(worker, "OutsideProcess", lambda: nullcontext(outside))
    published, own = (tmp_path / place / "runs" / copied["head"].name for place in ("published", "own"))
    for path in (published, own):
        path.parent.mkdir(parents=True)
        shutil.copy(copied["head"], path)
    monkeypatch.setattr(cli, "PLACES", (published.parents[1], own.parents[1]))
    monkeypatch.setattr(cli, "WRITTEN", (own.parents[1],))
    assert cli.main(["verify", own.stem]) == 0
    assert published.read_bytes() == copied["head"].read_bytes()
    assert json.loads(own.read_text())["verified"]["passed"]


def test_verifications_are_noted_in_ones_own_records_alone():
    assert cli.WRITTEN == cli.PLACES[1:] == (OWN, DEMO)


def test_the_process_cannot_import_lora2(outside: worker.OutsideProcess, tmp_path: Path):
    """A metric module that tries, with the package put on the path before, is refused."""
    (tmp_path / "sly").mkdir()
    module = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n__import__('lora2.glue.metrics')\n"
    (tmp_path / "sly" / "sly.py").write_text(module)
    base = tmp_path / "base"
    make_tokenizer(WORDS).save_pretrained(base)
    encoder("bert").save_pretrained(base)
    job: dict[str, Any] = {"task": "rte", "model": str(base), "adapter": None, "tokenizer": str(base), "outputs": 2}
    job["metric"] = str(tmp_path / "sly")
    (tmp_path / "job.json").write_text(json.dumps(job))
    assert outside.ask(tmp_path) == "ImportError: lora2: refused here, where stock libraries alone may compute"


@pytest.mark.parametrize("name", ["lora2_k8", "adalora"])
def test_a_wrong_exported_weight_is_caught(
    name: str, trained: dict[str, Path], outside: worker.OutsideProcess, monkeypatch: pytest.MonkeyPatch
):
    right = job.lora_pairs

    def wrong(model: Any) -> Any:
        pairs = right(model)
        first = next(key for key, (a, _) in pairs.items() if len(a))
        return {**pairs, first: (pairs[first][0], 2 * pairs[first][1])}

    monkeypatch.setattr(job, "lora_pairs", wrong)
    result = verify(trained[name], outside)
    assert not result.passed
    assert "their logits differ from ours" in result.problems[0]


@pytest.mark.parametrize(
    ("name", "metric", "off"),
    [
        ("lora2_k1", "f1", 0.01),
        ("lora2_k8", "matthews", 0.2),
        ("lora", "accuracy_mm", 1 / 256),
        ("adalora", "spearman", 0.005),
        ("full", "accuracy", -1 / 256),
    ],
)
def test_a_wrong_recorded_score_is_caught(
    name: str, metric: str, off: float, copied: dict[str, Path], outside: worker.OutsideProcess
):
    right = json.loads(copied[name].read_text())["metrics"]["best"][metric]
    edited(copied[name], "metrics", "best", metric, to=right + off)
    result = verify(copied[name], outside)
    assert not result.passed
    assert "is recorded" in result.problems[0]
    assert result.metrics[metric] == pytest.approx(right, abs=1e-5 if name != "lora2_k8" else 0.1)


def test_what_stock_libraries_raise_is_a_failed_verification(
    trained: dict[str, Path], outside: worker.OutsideProcess, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job, "save_lora", lambda *what, **how: None)
    result = verify(trained["lora2_k1"], outside)
    assert not result.passed
    assert "stock libraries raised" in result.problems[0]
    assert (result.metrics, result.packages) == ({}, {})


def odd_texts(folder: Path) -> None:
    """Demo data of MRPC as official files with Windows' ends of lines and texts that readers of CSV trip over."""
    raw = load_raw("mrpc", "demo", None)
    for name, split in raw.splits.items():
        texts = ([*ODD, *split.texts[0][len(ODD) :]], [*split.texts[1][: -len(ODD)], *ODD])
        local.write_split(TASKS["mrpc"], folder, name, replace(split, texts=texts))
        path = folder / "MRPC" / ("train.tsv" if name == "train" else "dev.tsv")
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))


def test_official_files_are_read_alike(outside: worker.OutsideProcess, tmp_path: Path):
    odd_texts(tmp_path / "glue")
    local_data = ("data=local", f"data.dir={tmp_path / 'glue'}")
    assert run(resolve(compose(*QUICK, "task=mrpc", "method=head", *local_data, *folders(tmp_path)))) == 0
    (path,) = (tmp_path / "results" / "runs").glob("*.json")
    result = verify(path, outside)
    assert result.passed, result.problems
    assert result.examples == 256


def test_the_hubs_snapshot_is_read_alike(
    trained: dict[str, Path], outside: worker.OutsideProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import datasets

    dev = load_raw("mnli", "demo", None).splits
    for name in TASKS["mnli"].dev_splits:
        columns = dict(zip(TASKS["mnli"].text_columns, dev[name].texts, strict=True))
        rows = datasets.Dataset.from_dict({**columns, "label": [int(label) for label in dev[name].labels or ()]})
        rows.to_parquet(tmp_path / "mnli" / f"{name}-00000-of-00001.parquet")
    files = "".join(f"  - split: {name}\n    path: mnli/{name}-*\n" for name in TASKS["mnli"].dev_splits)
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: mnli\n  data_files:\n{files}---\n")
    monkeypatch.setattr(hub, "snapshot", lambda task, names: tmp_path)
    monkeypatch.setattr(one_run, "load_data", lambda *_, **__: replace(load_raw("mnli", "demo", None), source="hub"))
    result = verify(trained["lora"], outside)
    assert result.passed, result.problems


def test_two_verifications_differ_in_nothing_but_the_date(trained: dict[str, Path], outside: worker.OutsideProcess):
    one, two = (verify(trained["adalora"], outside).model_dump(exclude={"date"}) for _ in range(2))
    assert one == two


def test_a_process_that_is_gone_is_told(tmp_path: Path):
    from lora2.common.errors import UserError

    process = worker.OutsideProcess()
    with process:
        process._process.kill()
        with pytest.raises(UserError, match="ended with code -9"):
            process.ask(tmp_path)


def test_the_runs_are_worth_verifying(trained: dict[str, Path]):
    """A constant prediction would agree with much."""
    constant = [name for name, path in trained.items() if json.loads(path.read_text())["constant"]]
    assert constant == []
    assert len(np.unique([json.loads(path.read_text())["config"]["task"] for path in trained.values()])) == 8
