"""MaskBundle: a folder of packed masks, read layer by layer.

    bundle.json            what the masks are: model, method, parameters, seed, one entry per layer
    masks-00000.safetensors ...   one uint8 tensor a layer, (out_features, 8 * ceil(in_features / 64)), the bytes of
                           PackedMask words in little-endian order
    values-00000.safetensors ...  only of methods that change surviving weights, or quantize: the tensors of each
                           such layer, named LAYER.KIND (kinds: see LayerEntry)
    removal.safetensors    only of structured pruning: what was taken out (workloads/removal.py)

Masks and values have the shapes that are left. Every layer carries the hashes of its mask and of its values. Reading
checks values by their hash, masks by their checksum, which costs no more than counting them (by their hash in bundles
that have none); `validate` checks every hash."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from workloads import bits
from workloads.arguments import hold_fields, typed
from workloads.block_record import BlockRecord
from workloads.errors import UserError, meant
from workloads.files import plain, read_json, sha256_of, utf8
from workloads.layer_entry import LayerEntry
from workloads.limits import check_seed, shortened
from workloads.mask import PackedMask
from workloads.patterns import DENSE, FACTORED, GONE, WHOLE, parse_pattern
from workloads.removal import Removal

FORMAT = "prunesim-mask-bundle"
VERSION = 3  # 2: values; 3: checksums
REMOVAL_VERSION = 4  # of bundles with a removal, alone
SUBLAYER_VERSION = 5  # of bundles whose removal has sub-layers, alone
FACTORS_VERSION = 6  # of bundles with factors, alone
RECORDS_VERSION = 7  # of bundles with records of blocks, alone
READABLE = (1, 2, 3, 4, 5, 6, 7)
NO_NUMPY_TYPE = (AttributeError, TypeError)  # what safetensors raises on bfloat16 and 8-bit floats
HEADER_FILE = "bundle.json"
REMOVAL_FILE = "removal.safetensors"
VALUES_KEYS = ("group_size", "values", "values_sha256")  # of LayerEntry, since version 2
REMOVAL_KEYS = ("unpruned_out_features", "unpruned_in_features")  # of LayerEntry, since version 4


@dataclass(frozen=True)
class BundleHeader:
    """How the masks came to be; equal headers mean equal masks, bit for bit.

    Values are kept as bundle.json would bring them back, so that a header equals itself once written and read.
    """

    model_id: str
    method: str
    pattern: str = "unstructured"
    parameters: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    target_sparsity: float | None = None
    model_config: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    tool_version: str = ""

    def __post_init__(self) -> None:
        """Raises UserError unless target_sparsity is None or within 0..1, the seed within 64 bits, every field of its
        type."""
        for name in ("parameters", "model_config", "calibration"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        hold_fields(self)
        object.__setattr__(self, "model_id", utf8(self.model_id))
        check_seed(self.seed)
        if self.target_sparsity is not None:
            object.__setattr__(self, "target_sparsity", float(self.target_sparsity))
            if not 0 <= self.target_sparsity <= 1:
                raise UserError(f"target_sparsity is a fraction in [0, 1], not {self.target_sparsity}")

    def sha256(self) -> str:
        return sha256_of(dataclasses.asdict(self))


@dataclass(frozen=True)
class BundleFile:
    """bundle.json, whole."""

    format: str
    version: int
    header: BundleHeader
    layers: list[LayerEntry]
    removal_sha256: str = ""  # since version 4
    blocks: list[BlockRecord] = field(default_factory=list)  # since version 7
    sha256: str = ""  # of everything above; empty means not checked

    def content_sha256(self) -> str:
        return sha256_of(self.plain() | {"sha256": ""})

    def plain(self) -> dict[str, Any]:
        """As JSON: older versions had no keys for what they did not know."""
        content = dataclasses.asdict(self)
        unknown = [
            *(REMOVAL_KEYS if self.version < 4 else []),
            *(["checksum"] if self.version < 3 else []),
            *(VALUES_KEYS if self.version < 2 else []),
        ]
        if self.version < 4:
            del content["removal_sha256"]
        if self.version < 6:
            unknown.append("factors")
        if self.version < RECORDS_VERSION:
            del content["blocks"]
        for layer in content["layers"]:
            for name in unknown:
                del layer[name]
        return content


class MaskBundle:
    """Masks of one model. `bundle[name]` reads one PackedMask; iterating yields (LayerEntry, PackedMask) in order.
    `gone` are the entries of blocks and sub-layers that were taken out, `layers` all others."""

    def __init__(self, folder: Path, content: BundleFile):
        self.folder = folder
        self.header = content.header
        self.layers = [entry for entry in content.layers if entry.pattern != GONE]
        self.gone = [entry for entry in content.layers if entry.pattern == GONE]
        self.entries = content.layers  # all, in the model's order
        self.records = content.blocks  # what the method says of blocks
        self._removal_sha256 = content.removal_sha256
        self.sha256 = content.content_sha256()
        self._by_name = {entry.name: entry for entry in self.layers}

    @classmethod
    @typed
    def open(cls, folder: str | Path) -> "MaskBundle":
        """Reads bundle.json, and the headers and sizes of the shards, which tell that they are whole. Raises UserError
        if the folder is no bundle, is of a newer format, or lacks a shard or a part of one."""
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"{folder} is not a mask bundle: no such folder")
        if not (folder / HEADER_FILE).exists():
            unfinished = " (an unfinished run: repeat its command to complete it)" if is_unfinished(folder) else ""
            raise UserError(f"{folder} is not a mask bundle: it holds no {HEADER_FILE}{unfinished}")
        content = _read_header(folder / HEADER_FILE)
        own = [entry for entry in content.layers if entry.pattern not in (GONE, FACTORED)]
        shards = {entry.shard for entry in own} | {entry.values for entry in content.layers if entry.values}
        for shard in sorted({*shards, *([REMOVAL_FILE] if content.removal_sha256 else [])}):
            if Path(shard).name != shard:
                raise UserError(f"{folder}: shard {shard!r} is not a plain file name; make the bundle again")
            if not (folder / shard).is_file():
                raise UserError(f"{folder}: shard {shard} is missing; make the bundle again")
            try:
                with safe_open(folder / shard, framework="np"):
                    pass
            except (SafetensorError, OSError) as error:
                raise UserError(f"{folder}: shard {shard} cannot be read ({error}); make the bundle again") from None
        return cls(folder, content)

    def __len__(self) -> int:
        return len(self.layers)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> PackedMask:
        """The mask of a layer; of a product of factors, whose weights are all there, a full one. Raises UserError for
        an unknown name or a damaged shard."""
        return self._read(self.entry(name))

    def entry(self, name: str) -> LayerEntry:
        """What bundle.json says of a layer. Raises UserError for an unknown name."""
        if name not in self._by_name:
            raise UserError(
                f"{self.folder}: no layer {name!r}; {meant(name, self._by_name)}it has {len(self)}, the first is "
                f"{self.layers[0].name!r}"
            )
        return self._by_name[name]

    def __iter__(self) -> Iterator[tuple[LayerEntry, PackedMask]]:
        """Reads one layer ahead in a second thread; at most two layers are in memory."""
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead: tuple[LayerEntry, Future[PackedMask]] | None = None
            for entry in self.layers:
                current, ahead = ahead, (entry, reader.submit(self._read, entry))
                if current is not None:
                    yield current[0], current[1].result()
            if ahead is not None:
                yield ahead[0], ahead[1].result()

    def values(self, name: str) -> dict[str, np.ndarray]:
        """The tensors a method made for a layer, by kind (see LayerEntry); {} where the checkpoint's weights stay.

        Raises UserError for a damaged shard.
        """
        entry = self.entry(name)
        if not entry.values:
            return {}
        where, kinds = f"{self.folder}: layer {name} in {entry.values}", self.kinds(name)
        try:
            with safe_open(self.folder / entry.values, framework="np") as shard:
                tensors = {kind: shard.get_tensor(f"{name}.{kind}") for kind in kinds}
        except (SafetensorError, OSError, KeyError) as error:
            raise UserError(f"{where}: cannot be read ({error}); make the bundle again") from None
        except NO_NUMPY_TYPE:
            raise UserError(f"{where}: a tensor is of a type that no bundle has; make the bundle again") from None
        if values_sha256(tensors) != entry.values_sha256:
            raise UserError(
                f"{where}: the values' hash differs from bundle.json: the file is damaged; make the bundle again"
            )
        return tensors

    def kinds(self, name: str) -> list[str]:
        """Of the tensors of `values`, without reading them. Raises UserError for a damaged shard."""
        file = self.entry(name).values
        if not file:
            return []
        try:
            with safe_open(self.folder / file, framework="np") as shard:
                return sorted(key.rpartition(".")[2] for key in shard.keys() if key.rpartition(".")[0] == name)  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{self.folder}: layer {name} in {file}: cannot be read ({error}); make the bundle again"
            ) from None

    @property
    def is_smaller(self) -> bool:
        """Whether something was taken out."""
        return bool(self._removal_sha256)

    @cached_property
    def removal(self) -> Removal:
        """What was taken out. Raises UserError for a damaged file."""
        if not self.is_smaller:
            return Removal()
        where = f"{self.folder}: {REMOVAL_FILE}"
        try:
            arrays = load_file(self.folder / REMOVAL_FILE)
        except (SafetensorError, OSError, *NO_NUMPY_TYPE) as error:
            raise UserError(f"{where}: cannot be read ({error}); make the bundle again") from None
        if values_sha256(arrays) != self._removal_sha256:
            raise UserError(f"{where}: its hash differs from bundle.json: the file is damaged; make the bundle again")
        return Removal.from_arrays(arrays)

    @property
    def changes_weights(self) -> bool:
        """Whether the bundle holds weights of its own, so that masks alone do not make its model."""
        return any(entry.values for entry in self.layers)

    def validate(self, told: Callable[[int, int], None] = lambda done, of: None) -> None:
        """Reads everything. Raises UserError at the first mask whose hash, count or pattern is not as stated, or values
        whose hash is not."""
        for number, (entry, mask) in enumerate(self):
            told(number, len(self))
            try:
                pattern = None if entry.pattern in WHOLE else parse_pattern(entry.pattern)
            except UserError as error:
                raise UserError(f"{self.folder}: layer {entry.name}: {error}") from None
            if mask.sha256() != entry.sha256:
                raise UserError(
                    f"{self.folder}: layer {entry.name}: the mask's hash differs from bundle.json: the file is "
                    "damaged; make the bundle again"
                )
            whole = entry.pattern not in WHOLE or entry.factors is not None or entry.nnz == entry.layer.n_weights
            if not whole or (pattern is not None and not mask.follows(pattern.n, pattern.m)):
                raise UserError(
                    f"{self.folder}: layer {entry.name}: the mask does not follow its pattern {entry.pattern}; make "
                    "the bundle again"
                )
            self.values(entry.name)
        for entry in self.entries:
            left = self.removal.left(entry.unpruned)
            if (left is None) != (entry.pattern == GONE) or (left is not None and left.shape != entry.layer.shape):
                raise UserError(
                    f"{self.folder}: layer {entry.name}: its sizes are not what {REMOVAL_FILE} leaves; make the bundle "
                    "again"
                )

    @property
    def sparsity(self) -> float:
        """Zeros and what was taken out / weights over all layers of the unpruned model."""
        kept = sum(entry.nnz for entry in self.entries)
        return 1 - kept / sum(entry.unpruned.n_weights for entry in self.entries)

    @property
    def treated_sparsity(self) -> float:
        """Zeros / weights over the layers that were not left dense; 0 if all were."""
        treated = [entry for entry in self.entries if entry.pattern != DENSE]
        weights = sum(entry.unpruned.n_weights for entry in treated)
        return 1 - sum(entry.nnz for entry in treated) / weights if weights else 0.0

    def _read(self, entry: LayerEntry) -> PackedMask:
        if entry.factors is not None:
            return PackedMask.dense(*entry.layer.shape)
        where = f"{self.folder}: layer {entry.name} in {entry.shard}"
        try:
            with safe_open(self.folder / entry.shard, framework="np") as shard:
                octets = shard.get_tensor(entry.name)
        except (SafetensorError, OSError, KeyError) as error:
            raise UserError(f"{where}: cannot be read ({error}); make the bundle again") from None
        except NO_NUMPY_TYPE:
            raise UserError(f"{where}: a tensor is of a type that no bundle has; make the bundle again") from None
        if octets.dtype != np.uint8 or octets.shape != (entry.out_features, 8 * -(-entry.in_features // 64)):
            raise UserError(
                f"{where}: tensor {octets.dtype} {octets.shape} does not fit {entry.layer.shape}; make the bundle again"
            )
        try:
            mask = PackedMask(octets.view("<u8").astype(np.uint64, copy=False), entry.in_features)
        except UserError as error:
            raise UserError(f"{where}: {error}; make the bundle again") from None
        kept, checksum = bits.count_and_checksum(mask.words)
        if f"{checksum:016x}" != entry.checksum if entry.checksum else mask.sha256() != entry.sha256:
            raise UserError(
                f"{where}: the mask's hash differs from bundle.json: the file is damaged; make the bundle again"
            )
        if kept != entry.nnz:
            raise UserError(f"{where}: keeps {kept} weights, bundle.json says {entry.nnz}; make the bundle again")
        return mask


def values_sha256(tensors: dict[str, np.ndarray]) -> str:
    """Hash of a layer's values: kinds, types, shapes and bytes."""
    digest = hashlib.sha256()
    for kind, tensor in sorted(tensors.items()):
        digest.update(f"{kind}:{tensor.dtype.str}:{tensor.shape}:".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def is_unfinished(folder: Path) -> bool:
    return (folder / "progress.json").exists()


def _read_header(path: Path) -> BundleFile:
    raw = read_json(path, "mask bundle")
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise UserError(f"{path} does not describe a mask bundle (its 'format' is not {FORMAT!r})")
    if raw.get("version") not in READABLE or type(raw["version"]) is not int:
        raise UserError(
            f"{path} has format version {raw.get('version')!r}; this prunesim reads {READABLE[-1]} and older: upgrade "
            "prunesim"
        )
    try:
        content = TypeAdapter(BundleFile).validate_python(raw, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {place}: {first['msg']}; make the bundle again") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if content.sha256 and content.sha256 != content.content_sha256():
        raise UserError(f"{path} was changed after it was written (its hash differs); make the bundle again")
    if not content.layers:
        raise UserError(f"{path} lists no layers; make the bundle again")
    seen: set[str] = set()
    for entry in content.layers:
        if entry.name in seen:
            raise UserError(f"{path} lists layer {entry.name!r} twice; make the bundle again")
        seen.add(entry.name)
        if not entry.fits:
            rows, cols = map(shortened, entry.layer.shape)
            raise UserError(
                f"{path}: layer {entry.name!r}: {rows} x {cols} weights of which {shortened(entry.nnz)} are kept does "
                "not fit together; make the bundle again"
            )
    return content
