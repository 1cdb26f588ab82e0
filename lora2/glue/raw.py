"""Raw GLUE data: texts and labels in memory, and the fingerprint that names them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lora2.glue.tasks import TaskSpec


@dataclass(frozen=True)
class RawSplit:
    """One split of n examples.

    `texts` holds one list (single sentences) or two lists (pairs) of n strings. `labels` holds n numbers: class ids in
    the order of `TaskSpec.label_names`, or real scores for regression; None for a test split, whose labels are the
    GLUE server's.
    """

    texts: tuple[list[str], ...]
    labels: list[float] | None

    def __len__(self) -> int:
        return len(self.texts[0])


@dataclass(frozen=True)
class RawTask:
    """All splits of one task, where they came from and what was odd about them.

    `fingerprint` is the SHA-256 of the task version and of every text and label: equal content has an equal
    fingerprint, whatever its source.
    """

    task: str
    splits: dict[str, RawSplit]
    source: str
    synthetic: bool
    fingerprint: str
    warnings: tuple[str, ...]


def fingerprint(task: TaskSpec, splits: Mapping[str, RawSplit]) -> str:
    """SHA-256 (64 hex digits) over the task's name and version and the content of `splits`, taken in the order of
    their names.
    """
    digest = hashlib.sha256()
    digest.update(_framed([task.name, str(task.version)]))
    for name in sorted(splits):
        split = splits[name]
        labels = ["unlabelled"] if split.labels is None else [repr(float(label)) for label in split.labels]
        for column in ([name], *split.texts, labels):
            digest.update(_framed(column))
    return digest.hexdigest()


def _framed(strings: Iterable[str]) -> bytes:
    """The strings as bytes, each with its length and the whole with its count, so that no two lists give the same
    bytes.
    """
    # surrogatepass: a lone surrogate in a text from the hub must not stop the hash
    encoded = [text.encode("utf-8", "surrogatepass") for text in strings]
    return b"%d:" % len(encoded) + b"".join(b"%d:%b" % (len(text), text) for text in encoded)
