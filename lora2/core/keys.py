"""The names of what is followed over training: keys of a record's history, and of a tracker's curves. Needs no torch.

Writers are lora2/training/loop.py and the methods of lora2/models; readers are lora2/analysis and the tracker.
"""

STEP = "step"  # optimizer steps done
LEARNING_RATE = "lr"
TOKENS_PER_S = "tokens_per_s"
LOSS = "loss/"  # prefix: the parts of the training loss
TASK_LOSS = "loss/task"
BUDGET = "budget"  # kept singular values, all matrices
RANK = "rank/"  # prefix: kept singular values of one matrix
COSINE = "monitor/cosine_PQ"
SCORES_AGREE = "monitor/reduced_agrees"
SELECTION = "selection"  # what the best evaluation is chosen by


def evaluation(metric: str) -> str:
    """Name the curve of a dev metric."""
    return f"eval/{metric}"


def penalty(term: str) -> str:
    """Name a regulariser's share of the loss, weighted by γ."""
    return f"{LOSS}orth_{term}"


def regulariser(term: str) -> str:
    """Name a term of eq. 5 as printed, without γ, whether it is trained or not."""
    return f"monitor/orth_{term}"


def rank(matrix: str) -> str:
    """Name the curve of one matrix's kept singular values, for example `rank/layer.0.query`."""
    return f"{RANK}{matrix}"
