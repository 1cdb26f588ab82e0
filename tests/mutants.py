"""Planted faults: each one must turn a test red. A script, not collected by pytest.

    python tests/mutants.py [--only issue2 | --only NAME] [--jobs 2]

Every fault is planted alone in a temporary copy of the project. The figures go to results/faults.json under "mutants"
when all of them were tried. tests/end_to_end/test_mutants.py keeps the table from rotting.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from faults.figures import merge_figures

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("lora2", "tests", "configs", "scripts", "results", "pyproject.toml")
SECONDS = 400


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file` the text `old`, which occurs once, becomes `new`; `tests` must then fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    issue2: bool = False


def _mutant(name: str, file: str, old: str, new: str, *tests: str, issue2: bool = False) -> Mutant:
    return Mutant(name, f"lora2/{file}", old, new, tuple(f"tests/{test}" for test in tests), issue2)


CHANGED = "glue/test_glue_changed_files.py"
LIBRARY, REFERENCES = "core/test_trainer.py", "models/methods/test_references.py"
ADALORA, ADALORA_EQUAL = "models/methods/test_adalora.py", "models/methods/test_adalora_equal.py"
FUNCTIONAL, LAYERS, LINEAR = "core/test_functional.py", "core/test_layers.py", "core/test_linear.py"
ALLOCATOR, BUDGET, INJECT, TRAINER = (
    "core/test_allocator.py",
    "core/test_budget.py",
    "core/test_inject.py",
    "training/test_loop.py",
)
CAPTURED = "training/test_captured.py"

MUTANTS = (
    # ------------------------------------------------------------ the eight of issue 2, Done when 1
    _mutant(
        "k and r swapped",
        "models/methods/lora2.py",
        "k=rank.k, r=rank.r,",
        "k=rank.r, r=rank.k,",
        TRAINER,
        issue2=True,
    ),
    _mutant(
        "Λ missing from the forward",
        "core/functional.py",
        "(f.u * (scale * f.lam).unsqueeze(-1))",
        "(f.u * scale)",
        FUNCTIONAL,
        issue2=True,
    ),
    _mutant(
        "alpha / r scale missing",
        "core/functional.py",
        "(f.u * (scale * f.lam).unsqueeze(-1))",
        "(f.u * f.lam.unsqueeze(-1))",
        FUNCTIONAL,
        issue2=True,
    ),
    _mutant(
        "off-by-one in the schedule",
        "core/budget.py",
        "elapsed = step - self.t_i - (",
        "elapsed = step - self.t_i + 1 - (",
        BUDGET,
        issue2=True,
    ),
    _mutant(
        "<= threshold instead of exact top-b",
        "core/functional.py",
        "    return torch.zeros_like(scores, dtype=torch.bool).index_fill_(0, order[:budget], True)",
        "    return scores >= scores[order[budget - 1]]",
        FUNCTIONAL,
        issue2=True,
    ),
    _mutant(
        "regulariser misses a term",
        "core/functional.py",
        '"uv": lambda: (f.u.mT @ f.u, gram_v),',
        '"uv": lambda: (f.u.mT @ f.u,),',
        FUNCTIONAL,
        issue2=True,
    ),
    _mutant(
        "importance after zero_grad",
        "models/methods/lora2.py",
        "        if self.allocator is not None and grads_finite:\n"
        "            self.allocator.observe(step)\n        yield\n",
        "        yield\n        if self.allocator is not None and grads_finite:\n",
        "        if self.allocator is not None and grads_finite:\n            self.allocator.observe(step)\n"
        "        yield\n        if False:\n",
        ADALORA,
    ),
    _mutant(
        "AdaLoRA's score lacks the mean over P",
        "core/functional.py",
        'importance["lam"] + importance["u"].mean(-1) + ',
        'importance["lam"] + ',
        ADALORA,
    ),
    _mutant(
        "AdaLoRA's score lacks the mean over Q",
        "core/functional.py",
        ' + importance["U"].mean(-1)  # (n, r)',
        "  # (n, r)",
        ADALORA_EQUAL,
    ),
    _mutant(
        "AdaLoRA keeps what equals the threshold",
        "core/functional.py",
        "return scores > torch.sort(scores)",
        "return scores >= torch.sort(scores)",
        ADALORA,
    ),
    _mutant(
        "AdaLoRA's threshold is the next score",
        "core/functional.py",
        ".values[pruned - 1]",
        ".values[pruned]",
        ADALORA_EQUAL,
    ),
    _mutant(
        "AdaLoRA of equal scores keeps the first",
        "models/methods/adalora.py",
        "            choose=above_threshold_mask,\n",
        "",
        ADALORA_EQUAL,
    ),
    _mutant(
        "one scale forgets Λ in the fold",
        "core/functional.py",
        "(scale * f.lam).unsqueeze(-1) * f.U  # (n, r, d)",
        "scale * f.U  # (n, r, d)",
        ADALORA,
    ),
    _mutant(
        "PEFT's AdaLoRA gets another name",
        "config/identity.py",
        '"impl") == "peft"',
        '"impl") == "none"',
        "config/test_config.py",
    ),
    _mutant(
        "our AdaLoRA's timing stands in the stock one's row",
        "analysis/tables/build.py",
        'run.status == "timed" and method.get("impl") == "stacked"',
        'method.get("impl") == "none"',
        "analysis/test_tables.py",
    ),
    _mutant(
        "Houlsby's adapters stand after the feed-forward part alone",
        "models/methods/bottleneck.py",
        '"houlsby": ("attn_output", "ffn_w2")',
        '"houlsby": ("ffn_w2",)',
        REFERENCES,
    ),
    _mutant(
        "Pfeiffer's adapters stand after both parts",
        "models/methods/bottleneck.py",
        '"pfeiffer": ("ffn_w2",)',
        '"pfeiffer": ("attn_output", "ffn_w2")',
        REFERENCES,
    ),
    _mutant(
        "bottlenecks start ten times as wide",
        "models/methods/bottleneck.py",
        "INIT_STD = 0.02",
        "INIT_STD = 0.2",
        REFERENCES,
    ),
    _mutant(
        "bottlenecks do not start at the backbone",
        "models/methods/bottleneck.py",
        "(self.down.bias, self.up.weight, self.up.bias)",
        "(self.down.bias, self.up.bias)",
        REFERENCES,
    ),
    _mutant(
        "bottlenecks have no biases",
        "models/methods/bottleneck.py",
        "nn.Linear(bottleneck, base.out_features, device=base.weight.device)",
        "nn.Linear(bottleneck, base.out_features, bias=False, device=base.weight.device)",
        REFERENCES,
    ),
    _mutant(
        "bottlenecks do not decay",
        "models/methods/bottleneck.py",
        "[ParameterGroup(self._adapter), ",
        "[ParameterGroup(self._adapter, decays=False), ",
        REFERENCES,
    ),
    _mutant(
        "BitFit trains no bias of a LayerNorm",
        "models/methods/subset.py",
        '"bitfit": lambda name: name.endswith("bias")',
        '"bitfit": lambda name: name.endswith("bias") and "LayerNorm" not in name',
        REFERENCES,
    ),
    _mutant(
        "full fine-tuning leaves the embeddings",
        "models/methods/subset.py",
        '"full": lambda name: True',
        '"full": lambda name: "embeddings" not in name',
        REFERENCES,
    ),
    _mutant(
        "nothing of full fine-tuning decays",
        "models/methods/subset.py",
        "[ParameterGroup(trained)]",
        "[ParameterGroup(trained, decays=False)]",
        REFERENCES,
    ),
    # ----------------------------------------------------------------------------- what a run starts from
    _mutant(
        "a foreign head is kept",
        "models/backbone.py",
        "or trained_labels(cfg, source) is None:",
        "or True:",
        "models/test_head.py",
    ),
    _mutant(
        "keep_head is ignored",
        "models/weights.py",
        "    if not cfg.keep_head:\n        return False\n",
        "    return False\n",
        "models/test_head.py",
    ),
    _mutant(
        "a head of another size is kept",
        "models/weights.py",
        "if stored != num_labels:",
        "if stored is None:",
        "models/test_head.py",
    ),
    _mutant(
        "the problem type of another task is kept",
        "models/backbone.py",
        "config.problem_type = None",
        "pass",
        "models/test_head.py",
    ),
    _mutant(
        "the head is taken from init_from too",
        "config/initial.py",
        'return name.startswith("lora2.") or ".lora_" in name',
        "return bool(name)",
        "runs/test_initial.py",
    ),
    _mutant(
        "init_from starts from nothing",
        "training/build.py",
        "    if cfg.init_from is not None:\n",
        "    if False:\n",
        "runs/test_initial.py",
    ),
    _mutant(
        "the adapter's numbers do not name the run",
        "config/initial.py",
        "        digest.update(tensors[name].tobytes())\n",
        "",
        "runs/test_initial.py",
    ),
    _mutant(
        "init_from takes another backbone",
        "runs/restore.py",
        "if weights_hash(model, frozen) != source.frozen_weights:",
        "if False:",
        "runs/test_initial.py",
    ),
    _mutant("init_from takes another alpha", "runs/initial.py", '    "rank.alpha",\n', "", "runs/test_initial.py"),
    _mutant(
        "unused init_from is part of a run's name",
        "config/identity.py",
        '        del settings["init_from"]\n',
        '        settings["init_from"] = "none"\n',
        "runs/test_initial.py",
    ),
    _mutant(
        "unused keep_head is part of a run's name",
        "config/identity.py",
        '        del settings["model"]["keep_head"]\n',
        "        pass\n",
        "runs/test_initial.py",
    ),
    # ------------------------------------------------------------------------- batches and metrics
    _mutant(
        "the short last batch is dropped",
        "glue/batches.py",
        "range(0, len(order), size)]",
        "range(0, len(order) - size + 1, size)]",
        "glue/test_glue_batches.py",
    ),
    _mutant(
        "one order for all epochs",
        "glue/batches.py",
        "np.random.default_rng([seed, epoch])",
        "np.random.default_rng([seed])",
        "glue/test_glue_batches.py",
    ),
    _mutant(
        "processes share examples",
        "glue/batches.py",
        "parts[micro * world + rank] for",
        "parts[micro * world] for",
        "glue/test_glue_batches.py",
    ),
    _mutant(
        "padding is attended to",
        "glue/collate.py",
        "torch.from_numpy(mask.astype(np.int64))",
        "torch.ones(mask.shape, dtype=torch.int64)",
        "glue/test_glue_batches.py",
    ),
    _mutant("F1 of class 0", "glue/metrics.py", "pos_label=1", "pos_label=0", "glue/test_glue_metrics.py"),
    _mutant(
        "Spearman is Pearson",
        "glue/metrics.py",
        "_correlation(spearmanr,",
        "_correlation(pearsonr,",
        "glue/test_glue_metrics.py",
    ),
    _mutant(
        "mismatched is matched",
        "glue/metrics.py",
        '{f"{key}_mm": value for scores in mismatched for',
        '{f"{key}_mm": value for scores in [matched] * len(mismatched) for',
        "glue/test_glue_metrics.py",
    ),
    # --------------------------------------------------------------------------------------- stats
    _mutant(
        "population standard deviation", "analysis/stats.py", "std(ddof=1)", "std(ddof=0)", "analysis/test_stats.py"
    ),
    _mutant(
        "bootstrap ignores its seed",
        "analysis/stats.py",
        "np.random.default_rng(seed)",
        "np.random.default_rng()",
        "analysis/test_stats.py",
    ),
    _mutant(
        "above is below",
        "analysis/stats.py",
        'return "above" if low > paper_value',
        'return "above" if low <= paper_value',
        "analysis/test_stats.py",
    ),
    _mutant(
        "tied ranks not shared",
        "analysis/stats.py",
        "last - (counts - 1) / 2.0",
        "last - (counts - 1)",
        "analysis/test_stats.py",
    ),
    # ------------------------------------------------------------------------------------- records
    _mutant(
        "a metric that is not a number is shown",
        "runs/reader.py",
        "        if not math.isfinite(value):\n",
        "        if False:\n",
        "runs/test_reader.py",
    ),
    _mutant(
        "evaluation's seconds counted as training's",
        "runs/reader.py",
        'train_s=seconds["train_s"]',
        'train_s=seconds["eval_s"]',
        "runs/test_reader.py",
    ),
    _mutant(
        "marked runs stand before clean ones when they have more seeds",
        "runs/cells.py",
        "return bool(cell.caveats), bool(first.caveats), -len(cell.runs),",
        "return False, False, -len(cell.runs),",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "marked runs are averaged with clean ones",
        "runs/cells.py",
        "groups.setdefault((run.caveats, run.setting_id), {})",
        "groups.setdefault(((), run.setting_id), {})",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "a verdict on a marked number",
        "analysis/tables/cells.py",
        "return NO_VERDICT if row[task].caveats else verdict(values, printed)",
        "return verdict(values, printed)",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "an average of clean numbers and marked ones",
        "analysis/tables/cells.py",
        "if task in row}) > 1:",
        "if task in row}) > 99:",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "runs of other versions are as good as any",
        "runs/reader.py",
        "if _versions(run) == usual[run.setting_id, run.status]",
        "if True",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "a curve's line does not say what is wrong with its run",
        "analysis/html/curves.py",
        'named(", ".join(parts), run.caveats)',
        '", ".join(parts)',
        "analysis/test_caveats.py",
    ),
    _mutant(
        "an older record's data is official whatever its notes say",
        "runs/caveats.py",
        "any(OTHER_ROWS in str(note)",
        "any(False",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "a dead model's score is a result like any other",
        "training/evaluate.py",
        "float(np.ptp(predictions)) < SAME_SCORE",
        "False",
        "training/test_session.py",
    ),
    _mutant(
        "a shortened run is a whole one",
        "training/recording.py",
        '"shortened": result.shortened,',
        '"shortened": False,',
        "training/test_session.py",
    ),
    _mutant(
        "a resumed run's tracker is not given what it lost",
        "training/session.py",
        'tracking.replay(found.state["train_state"]["history"])',
        "pass",
        "training/test_tracking.py",
    ),
    _mutant(
        "a resumed run's tracker is told twice what it has",
        "training/tracking/tracker.py",
        "self._held = held(cfg, run_id)",
        "self._held = {}",
        "training/test_tracking.py",
    ),
    # -------------------------------------------------------------------------------------- config
    _mutant(
        "the seed is part of a setting's name",
        "config/identity.py",
        '(*IDENTITY_FREE, "seed")',
        "IDENTITY_FREE",
        "config/test_config.py",
    ),
    _mutant(
        "the data is not part of a run's name",
        "config/identity.py",
        '{"fingerprint": data_fingerprint}',
        "{}",
        "config/test_config.py",
    ),
    _mutant(
        "a recipe overrides the user",
        "config/resolve.py",
        "if value_at(draft.tree, path) is None and not (",
        "if not (",
        "config/test_config.py",
    ),
    # ------------------------------------------------------------ issue 14: command lines, sweeps, places, the shell
    _mutant(
        "a path is left to the grammar",
        "config/overrides.py",
        "    if os.path.exists(text):",
        "    if False:",
        "config/test_overrides.py",
    ),
    _mutant(
        "a dollar sign in a path is an interpolation",
        "config/overrides.py",
        "{found[1] * 2}",
        "{found[1]}",
        "config/test_overrides.py",
    ),
    _mutant(
        "a sweep of no job is no mistake",
        "config/grid.py",
        "if not setting.words:",
        "if False:",
        "config/test_grid.py",
    ),
    _mutant(
        "refused jobs are started",
        "experiments/sweep.py",
        "if told := refusals(statuses):",
        "if not (told := refusals(statuses)) and told:",
        "experiments/test_sweep.py",
    ),
    _mutant(
        "weights at hand are not looked at before a sweep",
        "experiments/refusals.py",
        "            _check_weights(cfg)",
        "            pass",
        "experiments/test_sweep.py",
    ),
    _mutant(
        "a shortened run is published",
        "analysis/published.py",
        'run.status == "ok" and limit is not None and run.steps >= limit',
        "False",
        "analysis/test_published.py",
    ),
    _mutant(
        "a published run is displaced by one's own",
        "runs/places.py",
        "found = {run.run_id: run for run in runs} | found",
        "found = found | {run.run_id: run for run in runs}",
        "analysis/test_published.py",
    ),
    _mutant(
        "variables of the shell are heeded",
        "training/environment.py",
        "value = os.environ.pop(name)",
        "value = os.environ[name]",
        "training/test_environment.py",
    ),
    _mutant(
        "a replaced setting is not told",
        "config/unused.py",
        "replaced = None if final in (None, COMMAND_LINE) else final",
        "replaced = None",
        "config/test_unused.py",
    ),
    _mutant(
        "a limit beyond the last epoch is not told",
        "config/schedule.py",
        "recipe.max_steps <= total",
        "recipe.max_steps > 0",
        "config/test_unused.py",
    ),
    _mutant(
        "runs without weights are proposed for export",
        "runs/finished.py",
        "{path.stem for path in runs if _has_weights(path)} or {path.stem for path in runs}",
        "{path.stem for path in runs}",
        "runs/test_export_errors.py",
    ),
)


def source(mutant: Mutant, root: Path = ROOT) -> str:
    """The text of the file that the fault is planted in."""
    return (root / mutant.file).read_text(encoding="utf-8")


def copy(origin: Path, folder: Path) -> None:
    """The project in `origin`, without its history and its environment."""
    for name in COPIED:
        path = origin / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(path, folder / name)


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest on the code in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rfE", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def killed(mutant: Mutant, origin: Path, red: list[str]) -> bool:
    """Whether a test other than those already `red` turns red with this fault planted in a copy of `origin`.

    Raises:
        RuntimeError: they could not be run at all, which proves nothing.
    """
    with tempfile.TemporaryDirectory(prefix="lora2-mutant-") as name:
        folder = Path(name)
        copy(origin, folder)
        text = source(mutant, folder)
        if text.count(mutant.old) != 1:
            raise RuntimeError(f"{mutant.name}: its text occurs {text.count(mutant.old)} times in {mutant.file}")
        (folder / mutant.file).write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        done = pytest_in(folder, "-x", *(f"--deselect={test}" for test in red), *mutant.tests)
    if done.returncode not in (0, 1):  # 1: tests failed
        raise RuntimeError(
            f"{mutant.name}: pytest ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}"
        )
    return done.returncode == 1


def red_before(origin: Path, tests: list[str]) -> list[str]:
    """The tests that fail without any fault: they can kill nothing."""
    done = pytest_in(origin, *tests)
    lines = [line.split(" ")[1:] for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return [" ".join(line).split(" - ")[0] for line in lines]


def survivors(wanted: list[Mutant], jobs: int) -> list[str]:
    """Plant each fault, say what became of it, and return the names of those that no test noticed."""
    with tempfile.TemporaryDirectory(prefix="lora2-mutants-") as name, ThreadPoolExecutor(jobs) as pool:
        origin = Path(name)  # one state of the code for all, whatever happens to the project meanwhile
        copy(ROOT, origin)
        red = red_before(origin, sorted({test for mutant in wanted for test in mutant.tests}))
        for test in red:
            print(f"left out, it is red without any fault: {test}", file=sys.stderr)
        alive = []
        for mutant, dead in zip(wanted, pool.map(lambda m: killed(m, origin, red), wanted), strict=True):
            print(f"{'killed  ' if dead else 'SURVIVED'}  {mutant.file}: {mutant.name}", flush=True)
            alive += [] if dead else [mutant.name]
        return alive


def main() -> int:
    """Exit code: 0 all killed, 1 there are survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help='"issue2" for its eight, or a part of a name')
    parser.add_argument("--jobs", type=int, default=1)
    chosen = parser.parse_args()
    wanted = [
        m for m in MUTANTS if chosen.only is None or (m.issue2 if chosen.only == "issue2" else chosen.only in m.name)
    ]
    started = time.perf_counter()
    alive = survivors(wanted, chosen.jobs)
    minutes = (time.perf_counter() - started) / 60
    print(f"{len(wanted) - len(alive)} of {len(wanted)} killed in {minutes:.1f} minutes")
    if chosen.only is None:
        write({"tried": len(wanted), "killed": len(wanted) - len(alive), "survivors": alive})
    return 1 if alive else 0


def write(figures: dict[str, object]) -> None:
    """Put the figures under "mutants" into results/faults.json; other keys stay."""
    merge_figures(ROOT / "results" / "faults.json", {"mutants": figures})


if __name__ == "__main__":
    sys.exit(main())
