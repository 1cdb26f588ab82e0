"""Each example runs as its readers would run it, quickly and without a network."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))
SAYS = {
    "causal_lm": "matrices still adapted",
    "hf_trainer": "singular values left",
    "own_loop": "singular values left",
    "ten_lines": "trainable params:",
}

# peft 0.21 asks transformers 5.23 for a name that it will drop
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    assert SAYS[path.stem] in said
    if path.stem in ("causal_lm", "ten_lines"):
        assert float(said.split()[-1]) < 1e-5


def test_every_example_is_known():
    assert {path.stem for path in EXAMPLES} == SAYS.keys()
