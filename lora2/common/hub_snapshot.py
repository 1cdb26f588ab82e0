"""Fetch a model's files from the Hugging Face hub at a pinned revision, or find them in the hub's cache.

Only what is read is fetched: configuration, tokenizer, safetensors. A pickle is never downloaded.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download, try_to_load_from_cache

PROBE_SECONDS = 3.0
PATTERNS = ["*.json", "*.safetensors", "*.txt", "spm.model"]
NEEDED = ("config.json", "model.safetensors")


def model_snapshot(hub_id: str, revision: str | None) -> Path:
    """Return the folder of the snapshot.

    Args:
        hub_id: "owner/name".
        revision: a commit, branch or tag; None takes the newest.

    Raises:
        OSError: it is not in the cache, and the hub cannot be reached (known within PROBE_SECONDS) or lacks the files.
    """
    folder = _snapshot(hub_id, revision, cached=True)
    if folder is None:
        problem = unreachable(lambda: HfApi().model_info(hub_id, revision=revision, timeout=PROBE_SECONDS))
        if problem is not None:
            raise OSError(f"not in the cache, and the hub is out of reach: {problem}")
        folder = _snapshot(hub_id, revision, cached=False)
    if folder is None:
        raise OSError(f"the hub's {hub_id} at {revision} has no {' or no '.join(NEEDED)}")
    return folder


def config_file(hub_id: str, revision: str | None) -> Path:
    """Return the path of a model's config.json, from the cache or fetched alone.

    Args:
        hub_id: "owner/name".
        revision: a commit, branch or tag; None takes the newest.

    Raises:
        OSError: it is not in the cache, and the hub cannot be reached (known within PROBE_SECONDS) or lacks it.
        ValueError: `hub_id` is no name of a repository.
    """
    cached = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    problem = unreachable(lambda: HfApi().model_info(hub_id, revision=revision, timeout=PROBE_SECONDS))
    if problem is not None:
        raise OSError(f"not in the cache, and the hub is out of reach: {problem}")
    return Path(hf_hub_download(hub_id, "config.json", revision=revision))


def unreachable(ask: Callable[[], object], seconds: float = PROBE_SECONDS) -> str | None:
    """Return why one request to the hub fails, or None if it does not, within `seconds`.

    Without a network a download would retry for 23 s. The request runs in a thread, because the look-up of a host name
    knows no timeout.

    Args:
        ask: makes the request, without retries.
        seconds: to wait for the answer.
    """
    problems: list[str | None] = [f"no answer within {seconds:g} s"]

    def attempt() -> None:
        try:
            ask()
        except Exception as error:  # the client has changed its HTTP library, and its exceptions, more than once
            problems.append(f"{type(error).__name__}: {error}")
        else:
            problems.append(None)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    return problems[-1]


def _snapshot(hub_id: str, revision: str | None, *, cached: bool) -> Path | None:
    """Return the snapshot's folder if it is whole."""
    try:
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=PATTERNS, local_files_only=cached))
    except OSError:
        return None
    return folder if all((folder / name).is_file() for name in NEEDED) else None
