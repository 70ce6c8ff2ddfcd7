"""MaskBundle: a folder of packed masks, read layer by layer.

    bundle.json            what the masks are: model, method, parameters, seed, one entry per layer
    masks-00000.safetensors ...   one uint8 tensor a layer, (out_features, 8 * ceil(in_features / 64)), the bytes of
                           PackedMask words in little-endian order

Every layer carries the hash of its mask, checked whenever it is read.
"""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from workloads.errors import UserError
from workloads.files import plain, read_json, sha256_of
from workloads.layers import Layer
from workloads.mask import PackedMask

FORMAT = "prunesim-mask-bundle"
VERSION = 1
HEADER_FILE = "bundle.json"


@dataclass(frozen=True)
class LayerEntry:
    """What bundle.json says of one layer. `weight_bits` is None where weights keep the checkpoint's float type."""

    name: str
    role: str
    block: int
    out_features: int
    in_features: int
    pattern: str
    nnz: int
    weight_bits: int | None
    sha256: str
    shard: str

    @property
    def layer(self) -> Layer:
        return Layer(self.name, self.role, self.block, self.out_features, self.in_features)

    @property
    def sparsity(self) -> float:
        return 1 - self.nnz / (self.out_features * self.in_features)


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
        """Raises UserError unless target_sparsity is None or within 0..1."""
        for name in ("parameters", "model_config", "calibration"):
            object.__setattr__(self, name, plain(getattr(self, name)))
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
    sha256: str = ""  # of everything above; empty means not checked

    def content_sha256(self) -> str:
        return sha256_of(dataclasses.asdict(dataclasses.replace(self, sha256="")))


class MaskBundle:
    """Masks of one model. `bundle[name]` reads one PackedMask; iterating yields (LayerEntry, PackedMask) in order."""

    def __init__(self, folder: Path, content: BundleFile):
        self.folder = folder
        self.header = content.header
        self.layers = content.layers
        self.sha256 = content.content_sha256()
        self._by_name = {entry.name: entry for entry in content.layers}

    @classmethod
    def open(cls, folder: str | Path) -> "MaskBundle":
        """Reads bundle.json only. Raises UserError if the folder is no bundle, is of a newer format or lacks a shard."""
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"{folder} is not a mask bundle: no such folder")
        if not (folder / HEADER_FILE).exists():
            unfinished = " (an unfinished run: repeat its command to complete it)" if is_unfinished(folder) else ""
            raise UserError(f"{folder} is not a mask bundle: it holds no {HEADER_FILE}{unfinished}")
        content = _read_header(folder / HEADER_FILE)
        for shard in sorted({entry.shard for entry in content.layers}):
            if Path(shard).name != shard:
                raise UserError(f"{folder}: shard {shard!r} is not a plain file name; make the bundle again")
            if not (folder / shard).is_file():
                raise UserError(f"{folder}: shard {shard} is missing; make the bundle again")
        return cls(folder, content)

    def __len__(self) -> int:
        return len(self.layers)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> PackedMask:
        """The mask of a layer. Raises UserError for an unknown name or a damaged shard."""
        if name not in self._by_name:
            raise UserError(
                f"{self.folder}: no layer {name!r}; it has {len(self)}, the first is {self.layers[0].name!r}"
            )
        return self._read(self._by_name[name])

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

    def validate(self) -> None:
        """Reads everything. Raises UserError at the first mask whose hash, count or pattern is not as stated."""
        from workloads.patterns import parse_pattern

        for entry, mask in self:
            try:
                pattern = parse_pattern(entry.pattern)
            except UserError as error:
                raise UserError(f"{self.folder}: layer {entry.name}: {error}") from None
            if pattern is not None and not mask.follows(pattern.n, pattern.m):
                raise UserError(
                    f"{self.folder}: layer {entry.name}: the mask does not follow its pattern {pattern}; make the bundle again"
                )

    @property
    def sparsity(self) -> float:
        """Zeros / weights over all layers."""
        kept = sum(entry.nnz for entry in self.layers)
        return 1 - kept / sum(entry.layer.n_weights for entry in self.layers)

    def _read(self, entry: LayerEntry) -> PackedMask:
        where = f"{self.folder}: layer {entry.name} in {entry.shard}"
        try:
            with safe_open(self.folder / entry.shard, framework="np") as shard:
                octets = shard.get_tensor(entry.name)
        except (SafetensorError, OSError, KeyError) as error:
            raise UserError(f"{where}: cannot be read ({error}); make the bundle again") from None
        if octets.dtype != np.uint8 or octets.shape != (entry.out_features, 8 * -(-entry.in_features // 64)):
            raise UserError(
                f"{where}: tensor {octets.dtype} {octets.shape} does not fit {entry.layer.shape}; make the bundle again"
            )
        try:
            mask = PackedMask(octets.view("<u8").astype(np.uint64, copy=False), entry.in_features)
        except UserError as error:
            raise UserError(f"{where}: {error}; make the bundle again") from None
        if mask.sha256() != entry.sha256:
            raise UserError(
                f"{where}: the mask's hash differs from bundle.json: the file is damaged; make the bundle again"
            )
        if mask.nnz != entry.nnz:
            raise UserError(f"{where}: keeps {mask.nnz} weights, bundle.json says {entry.nnz}; make the bundle again")
        return mask


def is_unfinished(folder: Path) -> bool:
    return (folder / "progress.json").exists()


def _read_header(path: Path) -> BundleFile:
    raw = read_json(path, "mask bundle")
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise UserError(f"{path} does not describe a mask bundle (its 'format' is not {FORMAT!r})")
    if raw.get("version") != VERSION or type(raw["version"]) is not int:
        raise UserError(
            f"{path} has format version {raw.get('version')!r}; this prunesim reads {VERSION}: upgrade prunesim"
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
    return content
