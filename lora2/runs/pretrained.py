"""What an encoder had been tuned on before a run: a score on data that its weights have seen is not clean."""

from collections.abc import Mapping

TUNED_ON: Mapping[str, str] = {
    name: f"{name} is {whole}, tuned on sentence pairs, AllNLI and Quora among them: its scores on MNLI and QQP are "
    "not clean."
    for name, whole in {"minilm": "all-MiniLM-L6-v2", "mpnet": "all-mpnet-base-v2"}.items()
}
