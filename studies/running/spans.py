"""A large sweep in pieces: some layers and some designs each, which any worker makes by itself.

Pieces go by layer, so that the statistics of a mask are gathered once for thousands of designs; a layer with more
designs than a piece has rows is cut along them. How it is cut follows from the sweep and `job_rows` alone, and pieces
put together in their order are the rows that one process makes in one go."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from studies.progress import ProgressLine
from studies.report import read_rows
from studies.running.store import Store
from studies.running.task import Task
from workloads.columns.layers import LAYER_COLUMNS
from workloads.files import sha256_of

if TYPE_CHECKING:
    from studies.running.rows_tasks import LayersTask


@dataclass(frozen=True)
class Span:
    """Of the operations of a source, and of the designs of a sweep. `beside`: instead of layers, what is included
    beside them."""

    layers: slice
    designs: slice
    beside: bool = False

    @property
    def bounds(self) -> list[int | str | None]:
        found = [self.layers.start, self.layers.stop, self.designs.start, self.designs.stop]
        return [*found, "beside"] if self.beside else found


ALL = Span(slice(None), slice(None))


def spans(layers: int, designs: int, job_rows: int, beside: bool = False) -> list[Span]:
    """Layer by layer and for each design by design, at most `job_rows` rows each; none where all are no more than
    that. Behind them what is included `beside` the layers, taken to be as many rows a design."""
    if layers * designs <= job_rows:
        return []
    across = min(designs, job_rows)  # designs of a piece
    deep = max(1, job_rows // designs)  # its layers, more than one where all designs fit
    found = [
        Span(slice(layer, min(layer + deep, layers)), slice(design, min(design + across, designs)))
        for layer in range(0, layers, deep)
        for design in range(0, designs, across)
    ]
    few = max(1, job_rows // layers)
    more = range(0, designs if beside else 0, few)
    return found + [Span(slice(0, 0), slice(design, min(design + few, designs)), True) for design in more]


@dataclass(frozen=True, eq=False)
class LayersPart(Task):
    """`whole_key`: of the task that it is a piece of, so that its own key is a hash of masks, designs, code and span.
    What is found is the file."""

    whole: "LayersTask"
    span: Span
    whole_key: str
    name: str
    kind: str
    counted = False

    @property
    def fresh(self) -> bool:  # type: ignore[override]
        return self.whole.fresh

    @property
    def title(self) -> str:
        return f"{self.whole.title}, job {self.name.rpartition('/')[2]}"

    def key(self, inputs: Sequence[Any]) -> str:
        return sha256_of([self.whole_key, self.span.bounds])

    def find(self, store: Store, key: str, inputs: Sequence[Any]) -> Path | None:
        return store.rows_file(self.name, key, self.kind)

    def make(self, store: Store, key: str, inputs: Sequence[Any], progress: ProgressLine) -> None:
        store.make_rows(self.name, key, lambda: self.whole.frame(inputs[0], self.span, progress), self.kind)


def rows_kind() -> str:
    """How pieces are written: as Parquet, at a sixth of the time of CSV, where it can be."""
    return "parquet" if find_spec("pyarrow") else "csv"


def read_part(file: Path) -> pd.DataFrame:
    return pd.read_parquet(file) if file.suffix == ".parquet" else read_rows(file, LAYER_COLUMNS)
