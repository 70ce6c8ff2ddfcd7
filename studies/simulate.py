"""Masks from anywhere onto accelerators: a frame of result rows, and the trace of one layer."""

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from checkpoints.expert_defaults import completed
from simulator.accelerators import ACCELERATORS, Accelerator
from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
from simulator.cycles import Infeasible
from simulator.gpu import GPUS
from simulator.gpu.layers import GpuTarget, open_gpu, predict_layers
from simulator.simulate import evaluate, open_target, simulate_layers
from simulator.statistics import StatisticsStore
from simulator.trace import busy_shares, timeline, trace_events
from studies.masks import generated, in_memory
from studies.progress import ProgressLine
from studies.settings import density_of
from workloads.bundle import BundleHeader, MaskBundle
from workloads.bundle_writer import STATISTICS
from workloads.conditions import Conditions
from workloads.errors import UserError, unknown
from workloads.experts import expert_of
from workloads.files import canonical_json, write_text
from workloads.importers import read_mask
from workloads.layers import Layer
from workloads.limits import shortened
from workloads.operations import Linear, linears_in_memory, linears_of
from workloads.patterns import DENSE
from workloads.rows import to_frame

MAX_DESIGNS = 100_000  # of a sweep: some minutes


@dataclass(frozen=True)
class Source:
    """Masks to simulate, read when needed; statistics of a bundle's masks are kept in its folder, and gathered anew if `fresh`."""

    header: BundleHeader
    count: int
    layers: Iterable[Linear]
    folder: Path | None = None
    fresh: bool = False

    @property
    def store(self) -> StatisticsStore:
        return StatisticsStore(self.folder / STATISTICS if self.folder else None, fresh=self.fresh)


def bundle_source(bundle: MaskBundle, fresh: bool = False) -> Source:
    header = bundle.header
    if any(expert_of(entry.name) is not None for entry in bundle.layers):
        header = with_experts(header)
    return Source(header, len(bundle), list(linears_of(bundle)), bundle.folder, fresh)


def with_experts(header: BundleHeader) -> BundleHeader:
    """The header, its config completed where it leaves the number of experts to its family."""
    return replace(header, model_config=completed(header.model_config))


def open_source(
    bundle: Path | None,
    mask: Path | None,
    model: str | None,
    pattern: str,
    density: float | None,
    seed: int,
    fresh: bool = False,
) -> Source:
    """Exactly one of bundle, mask and model must be given (UserError otherwise)."""
    if sum(given is not None for given in (bundle, mask, model)) != 1:
        raise UserError("simulate: give exactly one of BUNDLE, --mask FILE.npy and --model CONFIG")
    if density is not None and model is None:
        raise UserError("--density is for masks generated for --model; the masks given have their own")
    if bundle is not None and bundle.suffix in (".npy", ".npz") and bundle.is_file():
        raise UserError(
            f"{bundle} is a file of arrays, not a bundle: give --mask {bundle} (.npy), or prunesim import it"
        )
    if bundle is not None:
        return bundle_source(MaskBundle.open(bundle), fresh)
    if mask is not None:
        packed = read_mask(mask)
        header = BundleHeader(mask.stem, "imported-arrays")
        layer = Layer(mask.stem, "other", -1, packed.rows, packed.cols)
        return Source(header, 1, list(linears_in_memory(in_memory(header, [(layer, packed)]))))
    assert model is not None
    made = generated(model, pattern, density_of(pattern, density), seed, {})
    return Source(with_experts(made.header), made.count, linears_in_memory(in_memory(made.header, made.masks)))


def find_layer(source: Source, name: str) -> str:
    """The layer of that name, or the first of that role. Raises UserError if there is none."""
    for layer in source.layers:
        if name in (layer.name, layer.role):
            return layer.name
    first = next(iter(source.layers)).name
    raise UserError(f"no layer or role {name!r} to trace; there are {source.count} layers, the first is {first!r}")


def open_any(on: str, sets: Sequence[str], sweeps: Sequence[str], dtype: str) -> list[Accelerator] | GpuTarget:
    """An accelerator's designs, or a GPU. Raises UserError for unknown names and keys, and for what a GPU cannot do."""
    if on not in GPUS:
        if dtype:
            raise UserError(
                f"--dtype is for GPUs ({', '.join(GPUS)}); {on} has number.weight_bits and number.activation_bits"
            )
        if on in ATTENTION_MODELS:
            raise UserError(f"{on} runs attention masks: prunesim attention MASKS.npy --on {on}")
        if on not in ACCELERATORS:
            raise unknown("accelerator or GPU", on, [*ACCELERATORS, *GPUS])
        return open_targets(on, sets, sweeps)
    if sweeps:
        raise UserError(f"--sweep is for accelerators; run {on} once for each --set")
    return open_gpu(on, list(sets), dtype or "fp16")


def open_targets(on: str, sets: Sequence[str], sweeps: Sequence[str]) -> list[Accelerator]:
    """The accelerator with `sets`, once for every combination of the swept values ("key=v1,v2,..."). Raises UserError."""
    return combined(on, sets, [parse_sweep(sweep) for sweep in sweeps])


def combined(on: str, sets: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Accelerator]:
    """A target for every combination of one "key=value" of each of `choices`. Raises UserError for a key swept twice or without values."""
    seen: set[str] = set()
    for choice in choices:
        if not choice:
            raise UserError(f"{on}: a sweep without values; give at least one")
        key = choice[0].partition("=")[0]
        if key in seen:
            raise UserError(f"{on}: {key} is swept twice; give all of its values in one sweep")
        if len(set(choice)) < len(choice):
            raise UserError(f"{on}: the sweep of {key} names a value twice")
        seen.add(key)
    count = math.prod(len(choice) for choice in choices)
    if count > MAX_DESIGNS:
        raise UserError(
            f"{on}: the sweep asks for {shortened(count)} designs; at most {MAX_DESIGNS:,} at a time, so sweep fewer values"
        )
    return [open_target(on, [*sets, *chosen]) for chosen in itertools.product(*choices)]


def parse_sweep(text: str) -> list[str]:
    """ "array.rows=16,32" -> ["array.rows=16", "array.rows=32"]; commas within brackets or quotes do not part values."""
    key, separator, values = text.partition("=")
    parts = [part.strip() for part in re.findall(r'(?:\[[^\]]*\]|"[^"]*"|[^,\["])+', values)]
    if not separator or not key.strip() or not parts or not all(parts):
        raise UserError(f"--sweep {text!r}: expected key=value,value,... such as dram.bandwidth_gbps=25.6,51.2")
    return [f"{key.strip()}={part}" for part in parts]


def gpu_frame(source: Source, target: GpuTarget, conditions: Conditions, progress: ProgressLine) -> pd.DataFrame:
    """Predicted rows of every layer, in order."""
    rows = []
    for row in predict_layers(target, source.header, source.layers, conditions.tokens, conditions.routing):
        rows.append(row)
        progress(f"predicting on {target.name}", len(rows), source.count)
    return to_frame(rows)


def simulate_frame(
    source: Source, targets: Sequence[Accelerator] | GpuTarget, conditions: Conditions, progress: ProgressLine
) -> pd.DataFrame:
    """Result rows of every layer on every target, in order."""
    if isinstance(targets, GpuTarget):
        return gpu_frame(source, targets, conditions, progress)
    rows = []
    name = targets[0].name if len(targets) == 1 else f"{len(targets):,} designs of {targets[0].name}"
    for row in simulate_layers(targets, source.header, source.layers, conditions, source.store):
        rows.append(row)
        progress(f"simulating on {name}", len(rows), source.count * len(targets))
    progress.close()
    return to_frame(rows, extra=[column for target in targets for column in target.columns])


def layer_timeline(source: Source, target: Accelerator, conditions: Conditions, name: str):
    """(Linear, Timeline) of a masked layer, given by name or role; "": the first; of an expert's one run, with the tokens it then has.
    Raises UserError for an unknown layer, a level
    without tiles, and a layer that cannot run."""
    layers = {layer.name: layer for layer in source.layers}
    masked = [layer.name for layer in layers.values() if layer.weights.pattern != DENSE]
    name = find_layer(source, name) if name else next(iter([*masked, *layers]))
    if layers[name].weights.pattern == DENSE:
        raise UserError(
            f"{name} was left dense and runs as the unpruned layer; there is nothing to trace, name another"
        )
    load = conditions.routing.load(source.header, layers[name], conditions.tokens)
    try:
        outcome = evaluate(target, layers[name], replace(conditions, tokens=load.parts[-1][0]), source.store)
    except Infeasible as error:
        raise UserError(f"{name} cannot run on {target.name}, so there is nothing to trace: {error}") from None
    if outcome.sparse.stream is None:
        raise UserError(
            f"{target.name} is a formula of level {target.level!r} without tiles; there is nothing to trace"
        )
    return layers[name], timeline(outcome.sparse.stream, target.spec.buffers.double)


def write_trace(source: Source, target: Accelerator, conditions: Conditions, layer: str, path: Path) -> None:
    """Perfetto reads the file (ui.perfetto.dev), and chrome://tracing."""
    traced, line = layer_timeline(source, target, conditions, layer)
    title = f"{traced.name} on {target.name}, {conditions.tokens} tokens"
    write_text(path, canonical_json(trace_events(line, target.spec.clock.mhz, title)) + "\n")


def utilisation_frame(source: Source, target: Accelerator, conditions: Conditions, layer: str) -> pd.DataFrame:
    """busy_shares of a layer as a frame for reports, with what it holds for in every line."""
    traced, line = layer_timeline(source, target, conditions, layer)
    frame = pd.DataFrame(busy_shares(line))
    frame.insert(0, "begin_us", frame.pop("begin_cycles") / target.spec.clock.mhz)
    facts = {
        "layer": traced.name,
        "target": target.name,
        "settings": target.settings,
        "tokens": conditions.tokens,
    }
    return frame.assign(**facts)
