"""Raw data of a task: texts and labels in memory, and the fingerprint that names them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lora2.glue.tasks import TASKS, TaskSpec


@dataclass(frozen=True)
class RawSplit:
    """Hold one split of n examples.

    Attributes:
        texts: one list (single sentences) or two lists (pairs) of n strings.
        labels: n class ids in the order of `TaskSpec.label_names`, or real scores for regression; None for a test
            split, whose labels only the GLUE server has.
    """

    texts: tuple[list[str], ...]
    labels: list[float] | None

    def __len__(self) -> int:
        return len(self.texts[0])


DROPPED = "were dropped as bad"  # in the warning about rows that were left out


@dataclass(frozen=True)
class RawTask:
    """Hold all splits of one task, where they came from and what was odd about them.

    Attributes:
        spec: what the task is.
        splits: by name.
        source: "hub", "local", "demo" or "files".
        synthetic: whether this project made the data.
        fingerprint: SHA-256, see the function of that name; equal content has an equal one, whatever its source.
        warnings: sentences for the user.
    """

    spec: TaskSpec
    splits: dict[str, RawSplit]
    source: str
    synthetic: bool
    fingerprint: str
    warnings: tuple[str, ...]

    @property
    def has_dropped_rows(self) -> bool:
        """Whether bad rows were left out (data.on_bad_row=drop)."""
        return any(DROPPED in warning for warning in self.warnings)


def fingerprint(task: TaskSpec, splits: Mapping[str, RawSplit]) -> str:
    """Return the SHA-256, 64 hex digits, over the task's name and version and every text and label.

    Args:
        task: whose data it is.
        splits: by name, in any order.
    """
    digest = hashlib.sha256()
    own_labels = () if task.name in TASKS else task.label_names  # GLUE's are given by its name
    digest.update(_framed([task.name, str(task.version), *own_labels]))
    for name in sorted(splits):
        split = splits[name]
        labels = ["unlabelled"] if split.labels is None else [repr(float(label)) for label in split.labels]
        for column in ([name], *split.texts, labels):
            digest.update(_framed(column))
    return digest.hexdigest()


def _framed(strings: Iterable[str]) -> bytes:
    """Encode the strings, each with its length and the whole with its count, so that no two lists give equal bytes."""
    # "surrogatepass", because a lone surrogate in a text from the hub must not stop the hash.
    encoded = [text.encode("utf-8", "surrogatepass") for text in strings]
    return b"%d:" % len(encoded) + b"".join(b"%d:%b" % (len(text), text) for text in encoded)
