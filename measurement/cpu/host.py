"""The CPU a record was made on: what the system says of it, and two yardsticks measured on it."""

import os
import platform
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from measurement.cpu.clock import RoundClock
from workloads import __version__
from workloads.errors import UserError

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
FLAGS = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8",
    "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
COPY_BYTES = 1 << 27
PEAK_SIZE = 1024


def cpu_name(text: str | None = None) -> str:
    """As /proc/cpuinfo words it; elsewhere as Python does."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo() if text is None else text, re.M)
    return found[1].strip() if found else platform.processor() or platform.machine() or "CPU"


def cpu_flags(text: str | None = None) -> list[str]:
    """Of FLAGS those that the CPU has; [] where the system does not say."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo() if text is None else text, re.M)
    there = set(found[1].split()) if found else set()
    return [flag for flag in FLAGS if flag in there]


def last_cache_bytes(folder: Path = CACHES) -> int:
    """Of the largest cache; 32 MiB where the system does not say."""
    sizes = [_size(path.read_text()) for path in sorted(folder.glob("index*/size"))] if folder.is_dir() else []
    return max(sizes, default=0) or 32 << 20


def _size(text: str) -> int:
    """ "32768K" -> 33,554,432."""
    found = re.fullmatch(r"(\d+)([KMG]?)", text.strip())
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]] if found else 0


def load_average() -> float:
    """Of the last minute; NaN where the system has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")


def free_bytes(text: str | None = None) -> float:
    """Memory that programs may take now; infinite where the system does not say."""
    said = text if text is not None else MEMINFO.read_text() if MEMINFO.exists() else ""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", said, re.M)
    return float(found[1]) * 1024 if found else float("inf")


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads(threads: int) -> None:
    """Raises UserError for more than there are cores."""
    if threads > cores():
        raise UserError(f"`threads` {threads}: this process may use {cores()} cores")


def describe(clock: RoundClock, threads: int, pinned_to: str) -> dict[str, Any]:
    """Everything a reader needs to judge a record; measures for a second or so."""
    config = torch.__config__.show()
    return {
        "cpu": cpu_name(),
        "flags": cpu_flags(),
        "cores": cores(),
        "threads": threads,
        "pinned_to": pinned_to,
        "last_cache_bytes": last_cache_bytes(),
        "load_average": load_average(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "mkl": _version(config, r"Math Kernel Library Version ([\d.]+)"),
        "onednn": _version(config, r"(?:MKL-DNN|oneDNN) v([\d.]+)"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "prunesim": __version__,
        **yardsticks(clock),
    }


def yardsticks(clock: RoundClock, copy_bytes: int = COPY_BYTES, size: int = PEAK_SIZE) -> dict[str, Any]:
    """copy_gbps (bytes read plus written) and matrix_gflops of a square dense GEMM per type: the best of five."""
    source = torch.zeros(copy_bytes, dtype=torch.uint8)
    copy = clock.cold([partial(torch.empty_like(source).copy_, source)], 5)[0].least_us
    pairs = [torch.randn((2, size, size)).to(dtype) for dtype in (torch.float32, torch.bfloat16)]
    products = [partial(F.linear, x, w) for x, w in pairs]
    rates = [2 * size**3 / each.least_us / 1e3 for each in clock.warm(products, 5)]
    return {
        "copy_gbps": round(2 * copy_bytes / copy / 1e3, 1),
        "matrix_gflops": dict(zip(("fp32", "bf16"), [round(rate, 1) for rate in rates], strict=True)),
        "matrix_size": size,
    }


def _cpuinfo() -> str:
    return CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else ""


def _version(text: str, pattern: str) -> str:
    found: Sequence[str] = re.findall(pattern, text)
    return found[0] if found else ""
