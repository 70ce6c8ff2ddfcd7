"""Damages one file, or one --set, and runs a command on it. It must end with code 0 (or 3: nothing fits), or with 2 and
one line; never with a traceback, never hang, never leave half a file."""

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.campaigns import mutations as m
from tests.campaigns.forked import Ended, run
from tests.campaigns.inputs import copy_of, make_inputs, make_torch_files

LIMIT_S = 180  # a whole study on a busy machine; what hangs, hangs longer
LEAKS = (
    "Traceback",
    "Warning:",
    "Exception ignored",
    "panicked",
    "Segmentation",
    "MAY-BE-UNSAFE",
    "allow_pickle",
    "trust_remote_code=True",
)


@dataclass(frozen=True)
class Job:
    """The file that is damaged, how, the commands one of which reads it, and what they need beside it."""

    file: str
    changes: tuple[m.Mutation, ...]
    commands: tuple[str, ...]
    needs: tuple[str, ...] = ()


_PRUNE = "prune model --method wanda --sparsity 0.5 --calibration {} --samples 2 --seq-len 8 --out out"
_EVAL = "eval model --text text.txt --seq-len 16 --windows 2"
_TUNE = "finetune model --masks {} --text {} --seq-len 16 --steps 2 --batch 2 --held-out 0.3 --out out"
_ANY_MODEL = ("import model --out out", _PRUNE.format("ids.npy"), _EVAL)
_BUNDLE = (
    "check {0}", "simulate {0} --on vitcod --out out.csv --format csv", "formats {0}", "simulate {0} --on a100-sxm",
    "eval model --masks {0} --text text.txt --seq-len 16 --windows 1", "simulate {0} --on systolic --format json",
)  # fmt: skip

JOBS = {
    "study": Job("study.toml", (m.change_toml, m.change_toml, *m.BYTES), ("run study.toml --out out",),
        ("model", "ids.npy", "text.txt")),
    "study-shapes": Job("shapes.toml", (m.change_toml, m.change_toml, *m.BYTES), ("run shapes.toml --out out",),
        ("shapes.json",)),
    "config": Job("model/config.json", (m.change_json, m.change_json, *m.BYTES),
        (*_ANY_MODEL, "generate --model model --out out"), ("model", "ids.npy", "text.txt")),
    "shapes": Job("shapes.json", (m.change_json, m.change_json, *m.BYTES),
                  ("generate --model shapes.json --out out", "simulate --model shapes.json --on vitcod",
                   "simulate --model shapes.json --pattern 2:4 --on a100-pcie")),
    "index": Job("model/model.safetensors.index.json", (m.change_json, *m.BYTES), _ANY_MODEL,
        ("model", "ids.npy", "text.txt")),
    "weights": Job("model/*.safetensors", (m.change_safetensors, m.change_safetensors, *m.BYTES), _ANY_MODEL,
        ("model", "ids.npy", "text.txt")),
    "tokenizer": Job("model/tokenizer.json", (m.change_json, *m.BYTES), (_EVAL, _PRUNE.format("text.txt")),
        ("model", "text.txt")),
    "tokenizer-config": Job("model/tokenizer_config.json", (m.change_json, *m.BYTES),
        (_EVAL, _PRUNE.format("text.txt")), ("model", "text.txt")),
    "bundle": Job("bundle/bundle.json", (m.change_json, m.change_json, *m.BYTES),
        tuple(c.format("bundle") for c in _BUNDLE), ("bundle", "model", "text.txt")),
    "masks": Job("bundle/masks-*.safetensors", (m.change_safetensors, m.change_safetensors, *m.BYTES),
        tuple(c.format("bundle") for c in _BUNDLE), ("bundle", "model", "text.txt")),
    "quantized": Job("quantized/bundle.json", (m.change_json, *m.BYTES),
        (*(c.format("quantized") for c in _BUNDLE), "simulate quantized --on bitwave",
        _TUNE.format("quantized", "ids.npy")), ("quantized", "model", "text.txt", "ids.npy")),
    "values": Job("quantized/values-*.safetensors", (m.change_safetensors, m.change_safetensors, *m.BYTES),
        (*(c.format("quantized") for c in _BUNDLE), "simulate quantized --on bitwave",
        _TUNE.format("quantized", "ids.npy")), ("quantized", "model", "text.txt", "ids.npy")),
    "statistics": Job("bundle/statistics/*.safetensors", (m.change_safetensors, *m.BYTES),
        ("simulate bundle --on vitcod",), ("bundle",)),
    "npy": Job("mask.npy", (m.change_npy, m.change_npy, *m.BYTES),
        ("simulate --mask mask.npy --on vitcod", "formats --mask mask.npy", "simulate --mask mask.npy --on sparten")),
    "npy-folder": Job("masks/*.npy", (m.change_npy, *m.BYTES), ("import masks --out out",), ("masks",)),
    "npz": Job("masks.npz", m.BYTES, ("import masks.npz --out out",)),
    "ids": Job("ids.npy", (m.change_npy, *m.BYTES),
        (_PRUNE.format("ids.npy"), "eval model --text ids.npy --seq-len 16"), ("model",)),
    "attention": Job("attention.npy", (m.change_npy, *m.BYTES),
        ("attention attention.npy --on vitcod-attention", "attention attention.npy --on "
        "vitcod-attention-paper --pruned-is-one")),
    "text": Job("text.txt", (m.change_words, *m.BYTES), (_EVAL, _PRUNE.format("text.txt")), ("model",)),
    "documents": Job("documents.jsonl", (m.change_json_lines, *m.BYTES), (_PRUNE.format("documents.jsonl"),),
        ("model",)),
    "pairs": Job("pairs.jsonl", (m.change_json_lines, *m.BYTES), (_TUNE.format("bundle", "pairs.jsonl"),),
        ("model", "bundle")),
    "gemms": Job("gemms.csv", (m.change_csv, m.change_csv, *m.BYTES),
        ("predict gemms.csv --on a100-pcie", "predict gemms.csv --on h100-sxm --dtype fp8 --out out.csv --format csv")),
    "rows": Job("rows.csv", (m.change_csv, m.change_csv, *m.BYTES), ("report rows.csv --out out",)),
    "rows-json": Job("rows.json", (m.change_json, *m.BYTES), ("report rows.json --out out",)),
    "quality": Job("quality.csv", (m.change_csv, *m.BYTES),
        ("report rows.csv --quality quality.csv --out out", "report --quality quality.csv --out out"), ("rows.csv",)),
    "record": Job("record.csv", (m.change_record, m.change_record, *m.BYTES),
        ("measure --replay record.csv", "measure --replay record.csv --l2 warm --format json")),
    "study-given": Job("given.toml", (m.change_toml, m.change_toml, *m.BYTES), ("run given.toml --out out",),
        ("model", "bundle")),
    "torch-weights": Job("pickled/pytorch_model.bin", m.BYTES,
        tuple(c.replace("model", "pickled", 1) for c in _ANY_MODEL), ("pickled", "ids.npy", "text.txt")),
    "torch-masks": Job("masks.pt", m.BYTES, ("import masks.pt --out out",)),
    "names": Job("names.toml", (m.change_toml, *m.BYTES), ("import short.npz --names names.toml --out out",),
        ("short.npz",)),
    "topology": Job("topology.csv", (m.change_csv, *m.BYTES), ("predict topology.csv --on a100-pcie",)),
    "documents-gz": Job("documents.json.gz", m.BYTES, (_PRUNE.format("documents.json.gz"),), ("model",)),
    "set": Job("", (), ("simulate bundle --on {} --set", "simulate bundle --on {} --sweep"), ("bundle",)),
    "set-prune": Job("", (),
        ("prune model --method {} --sparsity 0.5 --calibration ids.npy --samples 2 --seq-len 8 --out out "
        "--set",), ("model", "ids.npy")),
    "set-attention": Job("", (), ("attention attention.npy --on {} --set",), ("attention.npy",)),
    "set-gpu": Job("", (), ("predict --shapes 64,128,128 --on {} --set",)),
    "options": Job("", (), ("",), ("model", "bundle", "text.txt", "mask.npy", "ids.npy")),
}  # fmt: skip

SHAPES_STUDY = """title = "Shapes"
[[models]]
name = "s"
shapes = "shapes.json"
[[methods]]
method = "generated"
targets = [0.5, "2:4"]
[[accelerators]]
name = "sparten"
tokens = [2]
trace = "q"
"""
GIVEN_STUDY = """title = "Given"
[[models]]
name = "m"
path = "model"
[[methods]]
masks = "bundle"
label = "ours"
[[accelerators]]
name = "vitcod-paper"
"""
NASTY = [
    *m.TOML_VALUES,
    "",
    " ",
    "\n",
    "1\n2",
    "=",
    "a=b",
    "[",
    "{",
    '"',
    "\\",
    "é",
    "\udc80",
    "1e-400",
    "1,2",
    "1..2",
    "--",
    "-",
    "0,0",
    "1:100000000",
]
OPTIONS = {  # verb and what it needs: options whose values are drawn
    "simulate bundle --on vitcod": ("--tokens", "--activation-density", "--format", "--layer", "--dtype", "--trace",
        "--out"),
    "simulate --model llama-7b --on a100-sxm --pattern 2:4": ("--seed", "--density", "--tokens", "--dtype"),
    "generate --model model --out out": ("--density", "--seed", "--pattern", "--role-density"),
    "prune model --method magnitude --out out": ("--sparsity", "--pattern", "--rule", "--bits", "--group-size",
        "--seed", "--dtype", "--device", "--save-format"),
    "prune model --method wanda --calibration ids.npy --out out": ("--samples", "--seq-len", "--seed", "--sparsity",
        "--quantizer", "--allocation"),
    "eval model --text text.txt": ("--seq-len", "--windows", "--masks", "--dtype"),
    "formats bundle": ("--formats", "--block", "--bits"),
    "predict --on a100-pcie": ("--shapes", "--dtype"),
    "import mask.npy": ("--out", "--model-id"),
    "show": ("",),
    "ls": ("",),
    "check": ("",),
    "measure --out out": ("--shapes", "--model", "--kernels", "--tokens", "--runs"),
}  # fmt: skip


def campaign(folder: Path, seed: int, tries: range, jobs: tuple[str, ...] = tuple(JOBS)) -> Iterator[tuple[str, str]]:
    """(what was tried, "" or what went wrong) of every try."""
    inputs = folder / "inputs"
    shutil.rmtree(inputs, ignore_errors=True)
    prepare(inputs)
    for number in tries:
        draw = random.Random(f"{seed}:{number}")
        job = jobs[number % len(jobs)]
        place = folder / "mutated"
        shutil.rmtree(place, ignore_errors=True)
        copy_of(inputs, place, *JOBS[job].needs)
        command, what = arranged(job, inputs, place, draw)
        before = files_of(place)
        ended = run(command, place, LIMIT_S)
        yield f"{number} {job} ({what}): prunesim {' '.join(command)[:300]!r}", verdict(ended, place, before)


def prepare(inputs: Path) -> None:
    from tests.campaigns.record import write_sample_record

    make_inputs(inputs)
    make_torch_files(inputs)
    (inputs / "shapes.toml").write_text(SHAPES_STUDY)
    (inputs / "given.toml").write_text(GIVEN_STUDY)
    write_sample_record(inputs / "record.csv")
    for command in (
        "generate --model model --density 0.5 --seed 1 --out bundle",
        "simulate bundle --on vitcod --format csv --out rows.csv",
        "simulate bundle --on vitcod --format json --out rows.json",
        "prune model --method sparsegpt --sparsity 0.5 --bits 8 --calibration ids.npy --samples 2 --seq-len 8 --out "
        "quantized",
        "eval model --masks bundle --text text.txt --seq-len 16 --windows 2 --format csv --out quality.csv",
    ):
        ended = run(command.split(), inputs)
        assert ended.code == 0, f"{command}: {ended.err}"
    rows = json.loads((inputs / "rows.json").read_text())
    (inputs / "rows.json").write_text(json.dumps(rows[:4]))


def arranged(name: str, inputs: Path, place: Path, draw: random.Random) -> tuple[list[str], str]:
    """The command to run, and what was damaged; the damaged file is in `place`."""
    job = JOBS[name]
    if name == "options":
        start = draw.choice(list(OPTIONS))
        option = draw.choice(OPTIONS[start])
        value = draw.choice(NASTY).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")[:100_000]
        return [*start.split(), *([option] if option else []), value.replace("\0", "")], option
    command = draw.choice(job.commands)
    if name.startswith("set"):
        target, key = settable(name, draw)
        value = draw.choice(NASTY).replace("\0", "")
        return [*command.format(target).split(), f"{key}={value[:100_000]}"], key
    file = draw.choice(sorted(inputs.glob(job.file)))
    change = draw.choice(job.changes)
    path = place / file.relative_to(inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        data = change(file.read_bytes(), draw)
    except UnicodeEncodeError:
        data = m.flip_bits(file.read_bytes(), draw)
    path.write_bytes(data)
    return command.split(), f"{path.name} {change.__name__}"


def settable(name: str, draw: random.Random) -> tuple[str, str]:
    """(accelerator, GPU or method; one of its keys)."""
    import dataclasses

    from pruning.methods import METHODS
    from simulator.accelerators import ACCELERATORS
    from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
    from simulator.gpu import GPUS
    from simulator.machine.spec import _preset, flat

    if name == "set-prune":
        method = draw.choice(sorted(METHODS))
        keys = [field.name for field in dataclasses.fields(METHODS[method])]
        return method, draw.choice([*keys, "quantizer.order", "nothing", "allocation.x"])
    names = {"set": ACCELERATORS, "set-attention": ATTENTION_MODELS, "set-gpu": GPUS}[name]
    target = draw.choice(sorted(names))
    return target, draw.choice([*flat(_preset(target)), "array", "nothing"])


def verdict(ended: Ended, place: Path, before: dict[str, bytes]) -> str:
    """What went wrong; "" if nothing did."""
    if ended.code is None:
        return f"ran longer than {LIMIT_S} s"
    if leak := next((leak for leak in LEAKS if leak in ended.err), None):
        return f"{leak!r} on stderr: {ended.err[-400:]!r}"
    if ended.code not in (0, 2, 3):
        logs = [log.read_text()[-700:] for log in sorted((place / "logs").glob("prunesim-fault-*"))]
        return f"code {ended.code}: {ended.err.strip()[-300:]!r} {logs[-1] if logs else ''}"
    if ended.code == 2:
        said = [line for line in ended.err.splitlines() if line.startswith("prunesim: ")]
        if len(said) != 1 or not ended.err.rstrip().endswith(said[0]):
            return f"not one line: {ended.err[-300:]!r}"
    return half_files(place, before, ended.code)


def half_files(place: Path, before: dict[str, bytes], code: int) -> str:
    after = files_of(place)
    for name, content in after.items():
        if name.endswith(".part") or "prunesim-lock" in name or "probe" in name:
            return f"left {name}"
        if name.endswith(".json") and before.get(name) != content:
            try:
                json.loads(content)
            except ValueError:
                return f"{name} is not whole"
        if before.get(name, content) != content:
            return f"changed {name}, an input"
    if code == 2 and "out.csv" in after:
        return "out.csv was written by a command that failed"
    return ""


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in ("logs",)
        and "statistics" not in path.relative_to(folder).parts
    }  # fmt: skip
