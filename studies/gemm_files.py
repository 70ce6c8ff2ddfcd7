"""GEMM sizes from files: a CSV file with the columns m, n, k, or a topology file of SCALE-Sim, of GEMMs or of
convolutions.

A convolution of C channels, F filters of R x S and strides (a, b) over an input of H x W, which holds its padding
already, is a GEMM of m = ceil((H - R + a) / a) * ceil((W - S + b) / b) outputs a filter, n = F and k = R * S * C:
SCALE-Sim's own count, which rounds a last, short step up. Its depth-wise layers, named with "DP", are C such GEMMs of
one channel.
"""

import re
from pathlib import Path

import pandas as pd

from simulator.gpu.sizes import MAX_SIZE
from studies.tables_of_shapes import Line, read_lines, typed, whole_size
from workloads.errors import UserError
from workloads.operations import Convolution, without_mask
from workloads.patterns import DENSE

SIZES = ("m", "n", "k")
_CONVOLUTION = ("ifmap height", "ifmap width", "filter height", "filter width", "channels", "num filter")
_STRIDES = {"strides": ("strides", "strides"), "stride": ("stride", "stride"),
    "stride height": ("stride height", "stride width"),
            "strides h": ("strides h", "strides w")}  # fmt: skip


def read_gemms(path: Path) -> pd.DataFrame:
    """A row a GEMM with the columns m (tokens), n (out_features) and k (in_features), whole numbers from 1 to 2^24;
    other columns of the file stay. Capitals and blanks in the header do not matter, nor does a comma at the end of
    lines.

    Raises UserError naming the file, and the line and column of what is wrong.
    """
    names, lines = read_lines(path, "GEMMs")
    plain = [re.sub(r"[\s_]+", " ", name).lower() for name in names]
    if set(_CONVOLUTION) <= {name.removesuffix("s") if name == "num filters" else name for name in plain}:
        return _lowered(path, names, plain, lines)
    names = [lower if (lower := name.lower()) in SIZES else name for name in names]
    missing = [name for name in SIZES if name not in names]
    if missing:
        raise UserError(
            f"{path} lacks the column {missing[0]!r}; it needs m (tokens), n (out_features), k (in_features), or the "
            "columns of a SCALE-Sim topology"
        )
    frame = typed(names, [fields for _, fields in lines], SIZES)
    for name in SIZES:
        place = names.index(name)
        frame[name] = [whole_size(fields[place], f"{path} line {number}: {name}") for number, fields in lines]
    return frame


def _lowered(path: Path, names: list[str], plain: list[str], lines: list[Line]) -> pd.DataFrame:
    """The convolutions of a topology as GEMMs; `copies` where there are depth-wise ones."""
    plain = ["num filter" if name == "num filters" else name for name in plain]
    strides = next((pair for name, pair in _STRIDES.items() if name in plain), None)
    if strides is None or strides[1] not in plain:
        raise UserError(f"{path} is a topology of convolutions, but lacks the column 'Strides'")
    rows = []
    for number, fields in lines:
        sizes = {
            name: whole_size(fields[plain.index(name)], f"{path} line {number}: {names[plain.index(name)]}")
            for name in (*_CONVOLUTION, *strides)
        }
        alone = "DP" in fields[0]
        convolution = _convolution(f"{path} line {number}", sizes, (sizes[strides[0]], sizes[strides[1]]), alone)
        linear = convolution.lowered()
        gemm = {"m": convolution.tokens(), "n": linear.out_features, "k": linear.in_features}
        for name, size in gemm.items():
            if size > MAX_SIZE:
                raise UserError(
                    f"{path} line {number}: as a GEMM its {name} is {size:,}; sizes go from 1 to {MAX_SIZE}"
                )
        rows.append({"layer": fields[0], **gemm, "copies": sizes["channels"] if alone else 1})
    frame = pd.DataFrame(rows)
    return frame if (frame["copies"] > 1).any() else frame.drop(columns="copies")


def _convolution(name: str, sizes: dict[str, int], stride: tuple[int, int], alone: bool) -> Convolution:
    """One row of a topology; where channels stand alone, that of one of them. A last, short step counts as a whole
    one."""
    image, window = ((sizes[f"{what} height"], sizes[f"{what} width"]) for what in ("ifmap", "filter"))
    reached = [w + -(-(i - w) // s) * s if i > w else i for i, w, s in zip(image, window, stride, strict=True)]
    channels = 1 if alone else sizes["channels"]
    weights = without_mask(DENSE, sizes["num filter"] * channels * window[0] * window[1])
    return Convolution(
        name, "other", -1, sizes["num filter"], channels, (reached[0], reached[1]), window, weights, stride
    )
