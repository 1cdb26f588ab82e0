"""Compile the CUDA runtime of runtime.cpp for the torch of this Python, which must be a CUDA build.

    python tests/cuda_standin/build.py FOLDER

Then, with LD_PRELOAD=FOLDER/libstandin.so and LD_LIBRARY_PATH=FOLDER, torch.cuda is there. What torch wants of CUDA and
runtime.cpp lacks becomes a function that does nothing and succeeds. Needs g++, nm and c++filt; the headers came with
torch.
"""

import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

LIBRARIES = ("torch_cuda", "c10_cuda", "torch_python", "torch_cpu", "torch_cuda_linalg", "caffe2_nvrtc")
WANTED = ("__cuda", "cuda", "cublas", "cu")
NOT_OURS = ("cudnn", "cusparse", "cusolver", "cufft", "cupti", "curand", "cuFile")  # these libraries load without a GPU


def build(folder: Path) -> None:
    """Write libstandin.so, the runtime with cuBLAS, and libcuda.so.1, the driver."""
    if find_spec("triton") is None:
        sys.exit("error: this Python has no CUDA build of torch; name one that has: GPU_PYTHON=/path/to/python")
    torch, triton = (Path(str(find_spec(name).origin)).parent for name in ("torch", "triton"))
    folder.mkdir(parents=True, exist_ok=True)
    source, made, stubs = Path(__file__).with_name("runtime.cpp"), folder / "libstandin.so", folder / "rest.c"
    headers = [torch.parent / "nvidia" / "cu13" / "include", triton / "backends" / "nvidia" / "include"]
    compiled = ["g++", "-std=c++17", "-shared", "-fPIC", "-O1", "-w", *(f"-I{x}" for x in headers), str(source)]
    run([*compiled, "-o", str(made)])
    ours = symbols(made, "--defined-only")
    wanted = {name for library in LIBRARIES for name in symbols(torch / "lib" / f"lib{library}.so", "--undefined-only")}
    rest = sorted(name for name in wanted - ours if name.startswith(WANTED) and not name.startswith(NOT_OURS))
    stubs.write_text(functions(rest))
    run(["g++", "-c", "-fPIC", "-w", "-x", "c", str(stubs), "-o", f"{stubs}.o"])
    run([*compiled, f"{stubs}.o", "-o", str(made)])
    driver = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", f"-L{folder}", f"-Wl,--no-as-needed,-rpath,{folder}"]
    run(["g++", *driver, str(made), "-o", str(folder / "libcuda.so.1")])


def symbols(library: Path, which: str) -> set[str]:
    """Return names of a shared library, without their versions."""
    listed = run(["nm", "-D", which, str(library)])
    return {line.split()[-1].split("@")[0] for line in listed.splitlines() if line.strip()}


def functions(names: Iterable[str]) -> str:
    """Return C functions that do nothing and return 0, success to all of CUDA."""
    return "".join(f"int {name}(void) {{ return 0; }}\n" for name in names)


def run(command: list[str]) -> str:
    """Run a command, and return what it printed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve())
