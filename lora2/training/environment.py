"""What a run needs of the machine and the shell it is started in; checked before torch is imported."""

import importlib.util
import os

from lora2.common.errors import UserError

# Read by accelerate and torch, and able to change what a run computes: precision, steps, sharding, compilation.
ACCELERATE = ("ACCELERATE_", "PARALLELISM_CONFIG_", "FSDP_", "FP8_", "XLA_")
HARMLESS = {  # of these: where a run computes and what is logged
    "ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE", "ACCELERATE_CPU_AFFINITY", "ACCELERATE_LOG_LEVEL",
    "ACCELERATE_DEBUG_MODE", "ACCELERATE_DEBUG_RDV_FILE", "ACCELERATE_ENABLE_RICH",
}  # fmt: skip
OFF = {"", "0", "no", "none", "false", "default"}  # as `accelerate launch` sets what nobody asked for
ARITHMETIC = (
    "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_BLAS_PREFER_CUBLASLT",
    "TORCH_BLAS_PREFER_HIPBLASLT", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "USE_HUB_KERNELS",
    "USE_TORCH_XLA", "MKL_DISABLE_FAST_MM", "TORCH_COMPILE_OVERRIDE_BACKENDS", "ATEN_CPU_CAPABILITY", "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE",
)  # fmt: skip
# torch from 2.13 on compiles some kernels when they are first needed, if it finds the packages for it; a product with
# k = 1 then needs a C compiler. Its own kernels are always there, and are the same wherever a run is made.
SET = {"TORCH_DISABLE_NATIVE_JIT": "1"}
COUNTERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")  # as torchrun sets them


def forget_variables() -> list[str]:
    """Take away every variable that would change a run's numbers, which depend on its settings alone, or set it.

    To be called before torch is imported.

    Returns:
        A note for each that asked for something.
    """
    notes = []
    for name in sorted(os.environ):
        known = name.startswith(ACCELERATE) and name not in HARMLESS
        if (not known and name not in {*ARITHMETIC, *SET}) or os.environ[name] == SET.get(name):
            continue
        value = os.environ.pop(name)
        idle = value.lower() in OFF or (name, value) == ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
        if not (known and idle):
            notes.append(f"{name}={value}: not heeded: a run's numbers depend on its settings alone ({_setting(name)})")
    os.environ.update(SET)
    return notes


def _setting(name: str) -> str:
    """What to set instead."""
    if "MIXED_PRECISION" in name or "DOWNCAST" in name:
        return "recipe.precision=bf16"
    if "GRADIENT_ACCUMULATION" in name:
        return "recipe.accumulation=PARTS"
    if "GRADIENT_CLIPPING" in name:
        return "recipe.max_grad_norm=NORM"
    return "there is no setting for it"


def check_environment(tracker: str) -> None:
    """Refuse what would end in a traceback later, or in a run that is not tracked though it was asked for.

    Raises:
        UserError: names the variable or the missing package.
    """
    for name in COUNTERS:
        value = os.environ.get(name, "0")
        if not value.isdecimal():
            raise UserError(
                f"{name}: got {value!r} in the environment; it must be a whole number, as torchrun sets it: "
                f"unset {name}, or start with torchrun"
            )
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and "MASTER_ADDR" not in os.environ:
        raise UserError(
            f"MASTER_ADDR: not in the environment, though WORLD_SIZE={world}; set both or neither: start with "
            f"torchrun --nproc-per-node {world} scripts/train.py ..., or unset WORLD_SIZE"
        )
    if tracker != "none" and importlib.util.find_spec(tracker) is None:
        raise UserError(
            f"tracker: {tracker} is not installed; pip install -c constraints.txt {tracker}, or choose tracker=none"
        )
