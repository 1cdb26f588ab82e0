"""What an encoder had been tuned on before a run: a score on data that its weights have seen is not clean."""

from collections.abc import Mapping

# As MiniLM's card lists, which comes with its weights; MPNet was tuned on the same pairs. QNLI is made of SQuAD.
TUNED_ON: Mapping[str, str] = {
    name: f"{name} is {whole}, tuned on sentence pairs, AllNLI, Quora and SQuAD among them: scores on MNLI, QQP and "
    "QNLI are not clean."
    for name, whole in {"minilm": "all-MiniLM-L6-v2", "mpnet": "all-mpnet-base-v2"}.items()
}
