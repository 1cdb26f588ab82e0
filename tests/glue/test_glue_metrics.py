"""Metrics against scikit-learn and scipy, degenerate input, the `evaluate` module, and the files for the server."""

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from lora2.glue import glue_metric
from lora2.glue.metrics import compute, predict, score
from lora2.glue.submission import write_submission
from lora2.glue.tasks import TASKS

IDS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60).map(np.array)


@pytest.mark.filterwarnings("ignore:A single label was found")  # scikit-learn, of the oracle
@settings(max_examples=80, deadline=None)
@given(pairs=IDS)
def test_class_metrics_agree_with_scikit_learn(pairs):
    x, y = pairs.T
    assert score(TASKS["cola"], x, y)["matthews"] == pytest.approx(sk.matthews_corrcoef(y, x))
    both = score(TASKS["mrpc"], x, y)
    assert both["accuracy"] == pytest.approx(sk.accuracy_score(y, x))
    assert both["f1"] == pytest.approx(sk.f1_score(y, x, zero_division=0.0))


def test_correlations_agree_with_scipy():
    rng = np.random.default_rng(0)
    y = rng.uniform(0, 5, 50).round(1)
    x = (y + rng.normal(size=50)).astype(np.float32)
    result = compute(TASKS["stsb"], {"validation": x}, {"validation": y})
    assert result["pearson"] == pytest.approx(stats.pearsonr(x.astype(float), y).statistic)
    assert result["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize("name", TASKS)
def test_constant_predictions_give_numbers_and_no_warnings(name):
    task = TASKS[name]
    references = dict.fromkeys(task.dev_splits, np.array([0, 1, 1, 0]))
    result = compute(task, dict.fromkeys(task.dev_splits, np.zeros(4)), references)
    assert set(result) == set(task.metrics)
    assert task.main_metric in result
    assert all(result[key] == 0.0 for key in ("matthews", "pearson", "spearman", "f1") if key in result)


def test_almost_constant_scores_do_not_warn():
    x = np.full(5, 3.0) + np.arange(5) * 1e-15
    assert -1 <= score(TASKS["stsb"], x, np.arange(5.0))["pearson"] <= 1


def test_mnli_reports_both_dev_sets():
    gold = np.array([0, 1, 2, 2])
    predictions = {"validation_matched": gold, "validation_mismatched": np.array([0, 1, 2, 0])}
    references = {"validation_matched": gold, "validation_mismatched": gold}
    assert compute(TASKS["mnli"], predictions, references) == {"accuracy": 1.0, "accuracy_mm": 0.75}
    del predictions["validation_mismatched"]
    with pytest.raises(ValueError, match="predictions: no validation_mismatched"):
        compute(TASKS["mnli"], predictions, references)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad):
    with pytest.raises(FloatingPointError, match="predictions: 1 of 2 values"):
        score(TASKS["stsb"], np.array([1.0, bad]), np.array([1.0, 2.0]))
    with pytest.raises(FloatingPointError, match="logits: 1 of 4"):
        predict(TASKS["rte"], np.array([[1.0, bad], [0.0, 1.0]]))


@pytest.mark.parametrize(("x", "y"), [([], []), ([1], [1, 0]), ([[1]], [[1]])])
def test_shapes_that_do_not_fit_are_refused(x, y):
    with pytest.raises(ValueError, match="shapes"):
        score(TASKS["rte"], np.array(x), np.array(y))


def test_predict():
    assert predict(TASKS["mnli"], np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])).tolist() == [1, 0]
    assert predict(TASKS["stsb"], np.array([[0.5], [7.0]])).tolist() == [0.5, 7.0]


@pytest.mark.filterwarnings("default")  # what evaluate and its imports warn of is not ours to mend
def test_the_evaluate_module_loads_offline_and_agrees(tmp_path, monkeypatch):
    import evaluate

    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path)
    constant = np.zeros(4, int)
    for name, task in TASKS.items():
        metric = evaluate.load(str(Path(str(glue_metric.__file__)).parent), name)
        for x, y in ((np.array([1, 0, 1, 1]), np.array([1, 0, 0, 1])), (constant, np.array([1, 0, 1, 1]))):
            assert metric.compute(predictions=x, references=y) == pytest.approx(score(task, x, y))


def test_the_evaluate_module_imports_nothing_of_ours():
    text = Path(str(glue_metric.__file__)).with_name("glue_metric.py").read_text()
    names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(names) > 5
    assert not any("lora2" in ast.unparse(node) for node in names)


def test_the_table_of_tasks_is_consistent():
    assert list(TASKS) == ["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"]
    sizes = [392_702, 67_349, 8_551, 363_846, 104_743, 2_490, 3_668, 5_749]
    assert [
        TASKS[name].rows["train"] for name in ("mnli", "sst2", "cola", "qqp", "qnli", "rte", "mrpc", "stsb")
    ] == sizes
    for task in TASKS.values():
        assert task.main_metric in task.metrics
        assert set(task.rows) == {"train", *task.dev_splits, *task.test_splits}
        assert task.num_labels == (len(task.label_names) or 1)


class TestSubmission:
    @pytest.mark.parametrize("name", TASKS)
    def test_names_and_length(self, name, tmp_path):
        task = TASKS[name]
        predictions = {split: np.zeros(task.rows[split], int) for split in task.test_splits}
        paths = write_submission(task, predictions, tmp_path / "out")
        expected = ["MNLI-m.tsv", "MNLI-mm.tsv"] if name == "mnli" else [f"{task.folder}.tsv"]
        assert [path.name for path in paths] == expected
        for path, split in zip(paths, task.test_splits, strict=True):
            lines = path.read_text().splitlines()
            assert lines[0] == "index\tprediction"
            assert len(lines) == task.rows[split] + 1
            assert lines[-1].startswith(f"{task.rows[split] - 1}\t")

    @pytest.mark.parametrize(
        ("name", "values", "written"),
        [
            ("rte", [1, 0], ["not_entailment", "entailment"]),
            ("cola", [1, 0], ["1", "0"]),
            ("stsb", [-0.3, 5.7, 2.34567], ["0.000", "5.000", "2.346"]),
        ],
    )
    def test_values(self, name, values, written, tmp_path):
        predictions = np.resize(np.array(values), TASKS[name].rows["test"])
        (path,) = write_submission(TASKS[name], {"test": predictions}, tmp_path)
        assert [line.split("\t")[1] for line in path.read_text().splitlines()[1 : len(values) + 1]] == written

    @pytest.mark.parametrize("bad", [np.nan, 2, -1, 0.5])
    def test_what_is_no_prediction_is_refused_before_anything_is_written(self, bad, tmp_path):
        predictions = np.zeros(TASKS["rte"].rows["test"])
        predictions[7] = bad
        with pytest.raises(ValueError, match="each must be a"):
            write_submission(TASKS["rte"], {"test": predictions}, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_missing_or_short_splits_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match="no test_matched"):
            write_submission(TASKS["mnli"], {}, tmp_path)
        with pytest.raises(ValueError, match="3 for rte/test, the server expects 3000"):
            write_submission(TASKS["rte"], {"test": np.zeros(3)}, tmp_path)
