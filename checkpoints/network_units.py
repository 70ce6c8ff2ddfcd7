"""Cuts a torch module into units: stretches of its graph (torch.fx) that one tensor alone enters and one leaves, each
with a matrix or more. A residual block is one unit, and so is whatever is woven together."""

import inspect
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from checkpoints.network_matrices import Convolution, is_matrix
from checkpoints.recurrent import Recurrent
from workloads.errors import UserError, one_line

# What moves numbers about and computes nothing: it goes to the unit that needs it so.
ARRANGING = {
    "pad", "permute", "reshape", "view", "flatten", "unsqueeze", "squeeze", "transpose", "contiguous", "movedim",
    "Flatten", "Unflatten", "ConstantPad1d", "ConstantPad2d", "ZeroPad1d", "ZeroPad2d", "Identity",
}  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """`enters` is the shape of what one sample brings; channels come first in what `channels_first` says enters and
    leaves, else last."""

    module: fx.GraphModule
    enters: tuple[int, ...]
    channels_first: tuple[bool, bool]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Recurrent) or super().is_leaf_module(m, module_qualified_name)


def units_of(model: nn.Module, example: torch.Tensor, least: int = 1) -> list[Unit]:
    """Units of `least` matrices or more, but for the last. Raises UserError for a module that cannot be traced, reads
    more than one tensor, or has no matrix."""
    graph = traced(model, example)
    nodes = [node for node in graph.graph.nodes if node.op not in ("get_attr", "output")]
    places = [n for n, node in enumerate(nodes) if _has_matrix(graph, node)]
    if not places:
        raise UserError(
            f"{type(model).__name__} calls no linear, convolution or recurrent layer; nothing can be pruned"
        )
    found = [_cut(nodes, first, last) for first, last in pairwise(places)]
    possible = [(cut, number) for number, cut in enumerate(found, start=1) if cut is not None]
    cuts, before = [], 0
    for cut, number in possible:
        if number - before >= least:
            cuts.append(cut)
            before = number
    starts, ends = [1, *(cut + 1 for cut in cuts)], [*cuts, len(nodes) - 1]
    made, entering, first = [], nodes[0], len(nodes[0].meta["tensor_meta"].shape) > 2
    for start, end in zip(starts, ends, strict=True):
        last = _channels_first(graph, nodes[start : end + 1], nodes[end])
        module = _part(graph, entering, nodes[start : end + 1])
        made.append(Unit(module, tuple(entering.meta["tensor_meta"].shape[1:]), (first, last)))
        entering, first = nodes[end], last
    return made


def traced(model: nn.Module, example: torch.Tensor) -> fx.GraphModule:
    """The module's graph with the shapes that `example`, a batch, has in it."""
    taken = list(inspect.signature(model.forward).parameters.values())
    if any(each.default is inspect.Parameter.empty for each in taken[1:]):
        raise UserError(f"{type(model).__name__} reads {len(taken)} arguments; give a module that reads one tensor")
    settled = {each.name: each.default for each in taken[1:] if each.kind is not inspect.Parameter.VAR_KEYWORD}
    try:
        tracer = _Tracer()
        graph = fx.GraphModule(model, tracer.trace(model, concrete_args=settled or None)).eval()
        for node in list(graph.graph.nodes):  # arguments that were settled
            if node.op == "placeholder" and node.target.startswith(tuple(settled)) and not node.users:
                graph.graph.erase_node(node)
        ShapeProp(graph).propagate(example)
    except UserError:
        raise
    except Exception as error:  # whatever the module does that a trace cannot follow
        raise UserError(
            f"{type(model).__name__} cannot be followed by torch.fx ({one_line(error)}); give a module whose path does "
            "not depend on values, or whose units are an nn.Sequential"
        ) from None
    return graph


def _has_matrix(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    return any(is_matrix(module) for module in graph.get_submodule(str(node.target)).modules())


def _cut(nodes: list[fx.Node], first: int, last: int) -> int | None:
    """Behind which node from `first` on, and before `last`, one tensor alone is alive; the last that computes."""
    places = {node: n for n, node in enumerate(nodes)}
    allowed = []
    for n in range(first, last):
        alive = {node for node in nodes[: n + 1] if any(places.get(user, len(nodes)) > n for user in node.users)}
        if alive == {nodes[n]} and isinstance(nodes[n].meta.get("tensor_meta"), TensorMetadata):
            allowed.append(n)
    computing = [n for n in allowed if not _arranges(nodes[n])]
    return max(computing, default=min(allowed, default=None))


def _arranges(node: fx.Node) -> bool:
    name = getattr(node.target, "__name__", str(node.target))
    if node.op == "call_module":
        name = type(node.graph.owning_module.get_submodule(str(node.target))).__name__  # type: ignore[union-attr]
    return name in ARRANGING


def _channels_first(graph: fx.GraphModule, nodes: list[fx.Node], end: fx.Node) -> bool:
    """Of what leaves: as the last matrix of the unit puts them."""
    last = next(node for node in reversed(nodes) if _has_matrix(graph, node))
    module = graph.get_submodule(str(last.target))
    return isinstance(module, Convolution) and len(end.meta["tensor_meta"].shape) > 2


def _part(graph: fx.GraphModule, entering: fx.Node, nodes: list[fx.Node]) -> fx.GraphModule:
    """A stretch of the graph as a module of its own, which shares the modules."""
    made = fx.Graph()
    known = {entering: made.placeholder("states")}

    def of(node: fx.Node) -> fx.Node:
        if node not in known:  # a parameter or buffer, read where it is wanted
            known[node] = made.node_copy(node, of)
        return known[node]

    for node in nodes:
        known[node] = made.node_copy(node, of)
    made.output(known[nodes[-1]])
    return fx.GraphModule(graph, made).eval()
