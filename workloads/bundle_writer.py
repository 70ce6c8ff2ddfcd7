"""Writes a MaskBundle shard by shard; a killed run goes on where the last whole shard ended, to identical bytes."""

import dataclasses
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError
from safetensors.numpy import save_file

from workloads import bits
from workloads.arguments import typed
from workloads.block_record import BlockRecord, Fact, rounded
from workloads.bundle import (
    FACTORS_VERSION,
    FORMAT,
    HEADER_FILE,
    RECORDS_VERSION,
    REMOVAL_FILE,
    REMOVAL_VERSION,
    SUBLAYER_VERSION,
    VERSION,
    BundleFile,
    BundleHeader,
    LayerEntry,
    MaskBundle,
    values_sha256,
)
from workloads.errors import UserError
from workloads.factors import Factors
from workloads.files import (
    LOCK_FILE,
    check_writable_folder,
    is_leftover,
    pretty_json,
    read_json,
    replacing,
    sha256_of,
    write_text,
)
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.patterns import FACTORED, GONE
from workloads.removal import Removal

PROGRESS_FILE = "progress.json"
STATISTICS = "statistics"  # folder of what simulations gathered from the masks; by hash, so it never goes stale
OWN_FILE = re.compile(
    r"(masks|values|hidden|gradients|states|upstream|scores|search|rounds|reformed|training)-\d+\.safetensors"
    r"|allocation\.json"
    r"|removal\.safetensors"
)  # of a killed run


@dataclass
class Progress:
    """What is already on disk of an unfinished bundle."""

    header_sha256: str
    shards: int = 0
    layers: list[LayerEntry] = field(default_factory=list)
    removal_sha256: str = ""
    version: int = VERSION
    blocks: list[BlockRecord] = field(default_factory=list)


class BundleWriter:
    """`add` layers, `commit` to make a shard of them (the unit of resuming), `finish` to make the folder a bundle.

    `finished` tells that the folder already holds exactly this bundle; `written` names the layers already on disk.
    """

    @typed
    def __init__(self, folder: str | Path, header: BundleHeader):
        """Raises UserError if the folder cannot be written or holds a bundle or an unfinished run made otherwise."""
        self.folder = Path(folder)
        self.header = header
        self._pending: dict[str, np.ndarray] = {}
        self._pending_values: dict[str, np.ndarray] = {}
        self._pending_entries: list[LayerEntry] = []
        self._pending_records: list[BlockRecord] = []
        self.finished = False
        self._progress = Progress(header.sha256())
        if (self.folder / HEADER_FILE).exists():
            bundle = MaskBundle.open(self.folder)
            if bundle.header != header:
                raise UserError(f"{self.folder} already holds another bundle; choose another folder or delete it")
            self._progress.layers, self._progress.blocks = bundle.entries, bundle.records
            self.finished = True
            (self.folder / PROGRESS_FILE).unlink(missing_ok=True)
        elif (self.folder / PROGRESS_FILE).exists():
            self._progress = _read_progress(self.folder / PROGRESS_FILE)
            if self._progress.header_sha256 != header.sha256():
                raise UserError(
                    f"{self.folder} holds an unfinished run with other settings; choose another folder or delete it"
                )
            for shard in sorted({name for e in self._progress.layers for name in (e.shard, e.values) if name}):
                if not (self.folder / shard).is_file():
                    raise UserError(
                        f"{self.folder}: {shard} of the unfinished run is missing; delete it and start again"
                    )
            self._check_written()
        else:
            if self.folder.is_dir() and any(
                not is_own(file.name) and file.name != STATISTICS for file in self.folder.iterdir()
            ):
                raise UserError(f"{self.folder} holds other files and is no mask bundle; choose a new or empty folder")
            check_writable_folder(self.folder)

    def _check_written(self) -> None:
        """Raises UserError if a mask, or values, of the unfinished run are not what they were when they were
        written."""
        if self._progress.layers:
            content = self._content()
            try:
                MaskBundle(self.folder, content).validate()
            except UserError as error:
                raise UserError(f"the unfinished run cannot be continued; delete it and start again: {error}") from None

    @property
    def written(self) -> set[str]:
        return {entry.name for entry in self._progress.layers}

    def add(
        self,
        layer: Layer,
        mask: PackedMask,
        pattern: str,
        weight_bits: int | None = None,
        group_size: int | None = None,
        values: dict[str, np.ndarray] | None = None,
        unpruned: Layer | None = None,
    ) -> None:
        """`values`: tensors by kind, see LayerEntry; `unpruned`: the layer before something was taken out of it. Raises
        UserError if the mask's shape is not the layer's or the name was added before."""
        if mask.shape != layer.shape:
            raise UserError(f"{layer.name}: a mask of shape {mask.shape} does not fit weights of shape {layer.shape}")
        self._add_tensors(layer, values or {})
        self._pending[layer.name] = np.ascontiguousarray(mask.words, dtype="<u8").view(np.uint8)
        number = f"{self._progress.shards:05d}.safetensors"
        kept, checksum = bits.count_and_checksum(mask.words)
        rows, cols = (0, 0) if unpruned is None or unpruned.shape == layer.shape else unpruned.shape
        self._pending_entries.append(
            LayerEntry(**dataclasses.asdict(layer), pattern=pattern, nnz=int(kept), weight_bits=weight_bits,
                       sha256=mask.sha256(), shard=f"masks-{number}", group_size=group_size,
                       values=f"values-{number}" if values else "",
                       values_sha256=values_sha256(values) if values else "", checksum=f"{checksum:016x}",
                       unpruned_out_features=rows, unpruned_in_features=cols)
        )  # fmt: skip

    def add_factored(self, layer: Layer, factors: Factors, values: dict[str, np.ndarray]) -> None:
        """A layer that is a product of factors, which `values` hold. Raises UserError if the product's shape is not the
        layer's or the name was added before."""
        if factors.shape != layer.shape:
            raise UserError(f"{layer.name}: factors of {factors.words} do not make weights of shape {layer.shape}")
        self._add_tensors(layer, values)
        full = PackedMask.dense(*layer.shape).sha256()
        self._pending_entries.append(
            LayerEntry(**dataclasses.asdict(layer), pattern=FACTORED, nnz=factors.n_weights, weight_bits=None,
                       sha256=full, shard="", values=f"values-{self._progress.shards:05d}.safetensors",
                       values_sha256=values_sha256(values), factors=factors)
        )  # fmt: skip

    def _add_tensors(self, layer: Layer, values: dict[str, np.ndarray]) -> None:
        if layer.name in self.written or any(entry.name == layer.name for entry in self._pending_entries):
            raise UserError(f"{layer.name}: added twice to {self.folder}")
        for kind, tensor in values.items():
            self._pending_values[f"{layer.name}.{kind}"] = np.ascontiguousarray(tensor)

    def add_gone(self, layer: Layer, weight_bits: int | None = None, group_size: int | None = None) -> None:
        """A matrix of a block or sub-layer that is taken out; its bits are those of the layers that it is summed up
        with."""
        self._pending_entries.append(
            LayerEntry(**dataclasses.asdict(layer), pattern=GONE, nnz=0, weight_bits=weight_bits, sha256="", shard="",
                       group_size=group_size)
        )  # fmt: skip

    def record(self, block: int, facts: dict[str, Fact]) -> None:
        """What the method says of a block, which is committed with its layers."""
        if facts:
            self._pending_records.append(BlockRecord(block, rounded(facts)))

    def remove(self, removal: Removal) -> None:
        """Writes what is taken out; once, before the first `commit`."""
        arrays = removal.arrays()
        with replacing(self.folder / REMOVAL_FILE) as part:
            save_file(arrays, part)
        self._progress.removal_sha256 = values_sha256(arrays)
        self._progress.version = SUBLAYER_VERSION if removal.sublayers else REMOVAL_VERSION
        self._write_progress()

    @property
    def removal(self) -> Removal | None:
        """What an unfinished run takes out, None as long as it is not decided."""
        return MaskBundle(self.folder, self._content()).removal if self._progress.removal_sha256 else None

    def _content(self) -> BundleFile:
        progress, least = self._progress, REMOVAL_VERSION if self._progress.removal_sha256 else VERSION
        if any(entry.factors is not None for entry in progress.layers):
            least = FACTORS_VERSION
        if progress.blocks:
            least = RECORDS_VERSION
        version = max(progress.version, least)
        return BundleFile(FORMAT, version, self.header, progress.layers, progress.removal_sha256, progress.blocks)

    def begin(self) -> None:
        """Marks the folder as an unfinished run of this header, before anything but masks is written to it."""
        if not self._progress.layers:
            self._write_progress()

    def discard(self) -> None:
        """Removes what an unfinished run left, and the folder if nothing else is in it."""
        for file in self.folder.iterdir():
            if file.name == PROGRESS_FILE or (is_own(file.name) and file.name != LOCK_FILE):
                file.unlink()
        with suppress(OSError):
            self.folder.rmdir()

    def commit(self) -> None:
        """Writes the added layers as one shard. Does nothing if none was added."""
        if not self._pending_entries:
            return
        if self._pending_values:
            shard = next(entry.values for entry in self._pending_entries if entry.values)
            with replacing(self.folder / shard) as part:
                save_file(self._pending_values, part)
        if self._pending:
            with replacing(self.folder / next(entry.shard for entry in self._pending_entries if entry.shard)) as part:
                save_file(self._pending, part)
        self._progress.layers.extend(self._pending_entries)
        self._progress.blocks.extend(self._pending_records)
        self._progress.shards += 1
        self._pending, self._pending_values, self._pending_entries, self._pending_records = {}, {}, [], []
        self._write_progress()

    def _write_progress(self) -> None:
        content = dataclasses.asdict(self._progress)
        write_text(self.folder / PROGRESS_FILE, pretty_json(content | {"sha256": sha256_of(content)}))

    def finish(self) -> MaskBundle:
        """Commits what is pending, writes bundle.json and returns the bundle."""
        if not self.finished:
            self.commit()
            if not self._progress.layers:
                raise UserError(f"{self.folder}: nothing to write: no layer was added")
            content = self._content()
            content = dataclasses.replace(content, sha256=content.content_sha256())
            write_text(self.folder / HEADER_FILE, pretty_json(content.plain()))
            (self.folder / PROGRESS_FILE).unlink(missing_ok=True)
            self.finished = True
        return MaskBundle.open(self.folder)


def is_own(name: str) -> bool:
    """Whether a file of that name is what a killed run of ours leaves."""
    return bool(OWN_FILE.fullmatch(name)) or is_leftover(name)


def _read_progress(path: Path) -> Progress:
    content = read_json(path, "unfinished bundle")
    digest = content.pop("sha256", "") if isinstance(content, dict) else ""
    try:
        progress = TypeAdapter(Progress).validate_python(content)
    except ValidationError:
        raise UserError(f"{path} is damaged; delete {path.parent} and start again") from None
    if digest != sha256_of(content):
        raise UserError(f"{path} was changed (its hash differs); delete {path.parent} and start again")
    return progress
