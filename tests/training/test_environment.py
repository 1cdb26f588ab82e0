"""A run's numbers depend on its settings alone: what the shell would change is taken away and told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.clocks import without_clocks
from helpers.runs import ROOT, TINY, command, folders

from lora2.runs.record import RunRecord, read_record
from lora2.training.environment import forget_variables

SHELL = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
    "ACCELERATE_USE_FSDP": "true",
    "NVIDIA_TF32_OVERRIDE": "1",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
}


@pytest.fixture
def shell(monkeypatch):
    """The variables of this process, without any that matter; whatever a test does to them is undone."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    forget_variables()
    return os.environ


@pytest.mark.parametrize("name", SHELL)
def test_each_variable_is_taken_away_and_told(name, shell):
    shell[name] = SHELL[name]
    (note,) = forget_variables()
    assert note.startswith(f"{name}={SHELL[name]}: not heeded")
    assert name not in shell
    assert forget_variables() == []


def test_torch_compiles_no_kernels_of_its_own_accord(shell):
    """It would need a C compiler, and give other numbers where it finds Triton than where it does not."""
    for given, told in (("0", 1), ("1", 0)):
        shell["TORCH_DISABLE_NATIVE_JIT"] = given
        assert len(forget_variables()) == told
        assert shell["TORCH_DISABLE_NATIVE_JIT"] == "1"


def test_nothing_imports_torch_before_it_is_told(tmp_path):
    code = (
        "import sys; import lora2.training.run, lora2.experiments.worker, lora2.experiments.timing; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_launcher_sets_for_nobody_is_taken_away_in_silence(shell):
    idle = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_DYNAMO_MODE": "default"}
    shell.update({**idle, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1", "ACCELERATE_DYNAMO_USE_DYNAMIC": "False"})
    assert forget_variables() == []
    assert not [name for name in shell if name.startswith("ACCELERATE_")]


def test_where_a_run_computes_is_left_alone(shell):
    kept = {"ACCELERATE_USE_CPU": "true", "RANK": "0", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    shell.update(kept)
    assert forget_variables() == []
    assert kept.items() <= shell.items()


def test_the_shell_changes_no_number_and_the_record_says_what_was_not_heeded(tmp_path):
    def trained(folder: Path, **variables: str) -> RunRecord:
        given = (*TINY, *folders(folder), "budget=none", "recipe.max_steps=3")
        done = command(*given, cwd=tmp_path, **variables)
        assert done.returncode == 0, done.stderr
        assert all(f"note: {name}={value}" in done.stderr for name, value in variables.items())
        (path,) = (folder / "results" / "runs").iterdir()
        return read_record(path)

    plain, odd = trained(tmp_path / "plain"), trained(tmp_path / "odd", **SHELL)
    assert sum("not heeded" in note for note in odd.notes) == len(SHELL)
    assert plain.run_id == odd.run_id
    mine, theirs = without_clocks(plain), without_clocks(odd)
    for part in ("metrics", "history", "counts", "steps"):
        assert mine[part] == theirs[part]
