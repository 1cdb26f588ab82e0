"""Model files from the hub: the cache first, then one quick question, and never a pickle."""

import time
from pathlib import Path

import pytest

from lora2.common import hub_snapshot
from lora2.common.hub_snapshot import PATTERNS, model_snapshot, unreachable


def fake_download(monkeypatch: pytest.MonkeyPatch, folder: Path, *, in_cache: bool) -> list[bool]:
    """Replace the hub's client; returns the list of its calls, true for the ones that may only look into the cache."""
    calls: list[bool] = []

    def download(hub_id: str, *, revision: str, allow_patterns: list[str], local_files_only: bool) -> str:
        calls.append(local_files_only)
        assert (hub_id, revision) == ("a/b", "abc")
        assert allow_patterns == PATTERNS
        if local_files_only and not in_cache:
            raise FileNotFoundError("no snapshot")
        return str(folder)

    monkeypatch.setattr(hub_snapshot, "snapshot_download", download)
    return calls


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_a_whole_cached_snapshot_needs_no_network(monkeypatch, tmp_path):
    calls = fake_download(monkeypatch, fill(tmp_path, "config.json", "model.safetensors"), in_cache=True)
    monkeypatch.setattr(hub_snapshot, "unreachable", lambda ask: pytest.fail("asked the hub"))
    assert model_snapshot("a/b", "abc") == tmp_path
    assert calls == [True]


def test_what_is_missing_is_fetched(monkeypatch, tmp_path):
    calls = fake_download(monkeypatch, fill(tmp_path, "config.json", "model.safetensors"), in_cache=False)
    monkeypatch.setattr(hub_snapshot, "unreachable", lambda ask: None)
    assert model_snapshot("a/b", "abc") == tmp_path
    assert calls == [True, False]


def test_no_way_to_the_hub_is_said_at_once(monkeypatch, tmp_path):
    calls = fake_download(monkeypatch, tmp_path, in_cache=False)
    monkeypatch.setattr(hub_snapshot, "unreachable", lambda ask: "no network")
    with pytest.raises(OSError, match="out of reach: no network"):
        model_snapshot("a/b", "abc")
    assert calls == [True]


def test_a_repository_with_a_pickle_only_is_refused(monkeypatch, tmp_path):
    fake_download(monkeypatch, fill(tmp_path, "config.json", "pytorch_model.bin"), in_cache=False)
    monkeypatch.setattr(hub_snapshot, "unreachable", lambda ask: None)
    with pytest.raises(OSError, match=r"model\.safetensors"):
        model_snapshot("a/b", "abc")


def test_a_pickle_matches_no_pattern():
    assert not any(Path(name).match(pattern) for name in ("pytorch_model.bin", "x.pt", "x.pkl") for pattern in PATTERNS)


def test_a_hanging_hub_is_given_up_on():
    assert unreachable(lambda: time.sleep(5), seconds=0.05) == "no answer within 0.05 s"
    assert unreachable(lambda: None) is None
    assert unreachable(lambda: [][1]) == "IndexError: list index out of range"
