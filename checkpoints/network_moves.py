"""The gathers and scatters of a network, as its graph (torch.fx) has them with the shapes of an example.

Gathers are index_select, gather, take_along_dim, embeddings and tensor[..., indices]; scatters index_add and
scatter_add. What depends on no sample is none of them, nor is what a module does that the graph calls as one.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import fx, nn
from torch.fx.passes.shape_prop import TensorMetadata

from checkpoints.network_units import Unit
from workloads.operations.moves import Gather, Move, Scatter

# Where in a call the dimension and the indices stand; None: an index for each value.
SELECTS: dict[str, tuple[int | None, int]] = {"index_select": (1, 2), "gather": (None, 2), "take_along_dim": (None, 1)}
ADDS: dict[str, int | None] = {"index_add": 1, "index_add_": 1, "scatter_add": None, "scatter_add_": None}
NAMES = ("input", "dim", "index", "source")  # of their arguments


@dataclass(frozen=True)
class Found:
    """`rows` is the tensor that has the rows that are read or added up, `width` values each; `sums` what they are added
    up into, None of a gather."""

    index: fx.Node
    rows: fx.Node
    width: int
    sums: fx.Node | None = None


def moves_in(units: Sequence[Unit], samples: int) -> Iterator[Move]:
    """In the order in which they run; `samples` is how many the example had. Names are those of the module that runs
    them, the kind and a number."""
    names: Counter[str] = Counter()
    for number, unit in enumerate(units):
        of_samples: set[fx.Node] = set()
        for node in unit.module.graph.nodes:
            if node.op != "placeholder" and of_samples.isdisjoint(node.all_input_nodes):
                continue
            of_samples.add(node)
            found = _found(unit.module, node)
            if found is None:
                continue
            kind = Gather.kind if found.sums is None else Scatter.kind
            path = ".".join(part for part in (_path(node), kind) if part)
            names[path] += 1
            shared = found.index not in of_samples
            indices = prod(_shape(found.index)) // (1 if shared else samples)
            sizes = prod(_shape(found.rows)) // found.width // samples, found.width, max(1, indices), shared
            if found.sums is None:
                yield Gather(f"{path}{names[path]}", kind, number, *sizes)
            else:
                sums = prod(_shape(found.sums)) // found.width // samples
                yield Scatter(f"{path}{names[path]}", kind, number, *sizes, sums)


def _found(module: nn.Module, node: fx.Node) -> Found | None:
    """None for what is neither, or whose tensors the graph does not know."""
    called = getattr(node.target, "__name__", str(node.target))
    found = None
    if node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), nn.Embedding):
        found = Found(node.all_input_nodes[0], node, _shape(node)[-1])
    elif node.op == "call_function" and called == "embedding":
        found = Found(_argument(node, 0), node, _shape(node)[-1])
    elif called in SELECTS and node.op != "call_module":
        dim, index = SELECTS[called]
        found = Found(_argument(node, index), node, _behind(node, node, dim))
    elif called in ADDS and node.op != "call_module":
        rows = _argument(node, 3)
        found = Found(_argument(node, 2), rows, _behind(node, rows, ADDS[called]), node)
    elif node.op == "call_function" and called == "getitem":
        found = _indexed(node)
    if found is None or not all(_shape(each) for each in (found.index, found.rows)):
        return None
    return found


def _indexed(node: fx.Node) -> Found | None:
    """tensor[:, indices], of one tensor of whole numbers behind whole dimensions."""
    places = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    index = places[-1]
    if not isinstance(index, fx.Node) or any(each != slice(None) for each in places[:-1]):
        return None
    meta = index.meta.get("tensor_meta")
    if not isinstance(meta, TensorMetadata) or meta.dtype.is_floating_point or not meta.dtype.itemsize > 1:
        return None
    return Found(index, node, prod(_shape(node)[len(places) - 1 + len(meta.shape) :]))


def _argument(node: fx.Node, place: int) -> Any:
    if len(node.args) > place:
        return node.args[place]
    name = NAMES[place]
    return node.kwargs.get(name, node.kwargs.get({"source": "src", "index": "indices"}.get(name, name)))


def _behind(node: fx.Node, rows: fx.Node, dim: int | None) -> int:
    """Values of a row: all behind the dimension that is indexed."""
    if dim is None:
        return 1
    shape, place = _shape(rows), int(_argument(node, dim))
    return prod(shape[place % len(shape) + 1 :]) if shape else 1


def _shape(node: fx.Node) -> tuple[int, ...]:
    """() where it is not known."""
    meta = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    return tuple(meta.shape) if isinstance(meta, TensorMetadata) else ()


def _path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    return next((str(path) for path, _ in reversed(list(stack.values()))), "")
