"""Finds the prunable matrices of a model: every linear inside its blocks. Needs torch and transformers.

Routers, embeddings, the head, norms and rotary tables are never prunable, so they never appear here
(checkpoints/coverage.py counts them). A model has one stack of blocks, an encoder-decoder two; blocks are numbered
through, the encoder's first.
"""

import copy
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from checkpoints.families import Kind, family_of
from checkpoints.silent import Silent
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.roles import role_of

# What the constructors of transformers raise on values that do not fit together.
BAD_CONFIG = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError, StrictDataclassError,
    TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class LinearRef:
    """Where one prunable matrix lives inside its block.

    `module_path` is relative to the block; `parameter` is the name of the tensor on that module; `expert` is its
    index in a stacked 3-D parameter, None for a plain matrix; `transposed` says it is stored (in, out).
    """

    layer: Layer
    module_path: str
    parameter: str
    expert: int | None
    transposed: bool

    def matrix(self, block: nn.Module) -> torch.Tensor:
        """(out_features, in_features) view of the parameter, cut from autograd: writing into it changes the model."""
        return self.view(getattr(block.get_submodule(self.module_path), self.parameter).detach())

    def inputs(self, given: torch.Tensor) -> torch.Tensor:
        """(..., in_features) of what its module is called with."""
        return given

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        """The (out_features, in_features) view of anything shaped like the parameter, its gradient for example."""
        if self.expert is not None:
            tensor = tensor[self.expert]
        return tensor.T if self.transposed else tensor


def discover_layers(config: dict[str, Any] | PretrainedConfig) -> list[Layer]:
    """Every prunable matrix of the model a config describes, in module order; no weights are allocated.

    Names are relative to the whole model, e.g. "model.layers.0.self_attn.q_proj". A matrix that several blocks share is
    named once, where it is used first. Raises UserError when transformers cannot build the model, no blocks are found,
    or a block keeps its weights in an unknown form.
    """
    return [ref.layer for block in find_refs(meta_model(config)) for ref in block]


def find_refs(model: PreTrainedModel) -> list[list[LinearRef]]:
    """The prunable matrices of every block, those that several blocks share only in the first of them. Raises UserError
    as `find_stacks` and `block_linears`."""
    tied = shared_parameters(model)
    numbered = enumerate(
        (f"{stack.path}.{n}", block) for stack in find_stacks(model) for n, block in enumerate(stack.blocks)
    )
    return [
        [ref for ref in block_linears(block, path, number) if f"{path}.{ref.module_path}.{ref.parameter}" not in tied]
        for number, (path, block) in numbered
    ]


def shared_parameters(model: PreTrainedModel) -> dict[str, str]:
    """Parameters of blocks that are those of an earlier place: name -> the name of the first place. Head and
    embeddings, which many models share, are not meant: both are outside the blocks."""
    inside = tuple(f"{stack.path}." for stack in find_stacks(model))
    first: dict[int, str] = {}
    found = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name.startswith(inside):
            owner = first.setdefault(id(parameter), name)
            if owner != name:
                found[name] = owner
    declared = getattr(model, "all_tied_weights_keys", {})
    for name, owner in declared.items():
        if name.startswith(inside) and owner.startswith(inside) and name != owner:
            found.setdefault(name, owner)
    return found


def meta_model(config: dict[str, Any] | PretrainedConfig) -> PreTrainedModel:
    """The model of a config on the meta device: all modules and shapes, no memory, never code from a checkpoint.

    Raises UserError when the model_type is unknown or no model to prune, or when the config's values do not fit.
    """
    kind = config.model_type if isinstance(config, PretrainedConfig) else _known_model_type(config)
    config = copy.deepcopy(config)
    try:
        if not isinstance(config, PretrainedConfig):
            config = AutoConfig.for_model(kind, **{key: value for key, value in config.items() if key != "model_type"})
        for key in ("auto_map", "quantization_config"):  # remote code; packed weights (their logical shape is wanted)
            config.__dict__.pop(key, None)
        with torch.device("meta"):
            return family_of(config).model_class._from_config(config, attn_implementation="eager")
    except BAD_CONFIG as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"transformers {transformers.__version__} cannot build a {kind!r} model: {reason}; correct its config"
        ) from error


def _known_model_type(config: dict[str, Any]) -> str:
    """The config's "model_type"; UserError unless this transformers knows it."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        close = difflib.get_close_matches(str(kind), list(CONFIG_MAPPING), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "check the config or install a transformers that has it"
        raise UserError(f"transformers {transformers.__version__} has no model_type {kind!r}; {hint}")
    return kind


@dataclass(frozen=True)
class Stack:
    """Blocks that run one after the other; `path` is that of their list, relative to the model."""

    path: str
    blocks: nn.ModuleList


def find_stacks(model: nn.Module) -> list[Stack]:
    """The stacks of blocks in the order in which they run: one, or an encoder-decoder's two.

    A stack is the module list with the most parameters among those whose children have a class in common and hold at
    least two linears each. A multimodal model is asked for its text decoder first, so that a bigger vision tower cannot
    win. Raises UserError when there is no such list.
    """
    encodes = isinstance(model, PreTrainedModel) and family_of(model.config).kind is Kind.ENCODER_DECODER
    towers = [model.get_encoder(), model.get_decoder()] if encodes and isinstance(model, PreTrainedModel) else []
    found = [stack for tower in towers if tower is not model and (stack := _largest_stack(model, tower)) is not None]
    if len(found) == len(towers) == 2 and found[0].path != found[1].path:
        return found
    decoder = model.get_decoder() if isinstance(model, PreTrainedModel) else model
    stack = _largest_stack(model, decoder) or _largest_stack(model, model)
    if stack is None:
        raise UserError(
            f"{type(model).__name__}: no blocks found, that is no nn.ModuleList whose members are alike and hold two "
            "or more linears each; it cannot be pruned block by block"
        )
    return [stack]


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """(path relative to `model`, the list of blocks) of the last stack: a decoder's. Raises UserError as
    `find_stacks`."""
    stack = find_stacks(model)[-1]
    return stack.path, stack.blocks


def _largest_stack(model: nn.Module, root: nn.Module | None) -> Stack | None:
    lists = [
        module for module in (root or model).modules() if isinstance(module, nn.ModuleList) and _are_blocks(module)
    ]
    if not lists:
        return None
    blocks = max(lists, key=_n_parameters)
    return Stack(next(name for name, module in model.named_modules() if module is blocks), blocks)


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _are_blocks(children: nn.ModuleList) -> bool:
    """Hybrid models mix block classes in one list: a common base of their own (beyond nn.Module) is enough. A block
    that lost a sub-layer may hold fewer linears than others."""
    if len(children) == 0:
        return False
    common = set.intersection(*(set(type(child).__mro__) for child in children)) - set(nn.Module.__mro__)
    return bool(common) and all(_linears(child) >= 2 for child in children)


def _linears(block: nn.Module) -> int:
    """Those in a block; a sub-layer that was taken out counts as the two that it had at least."""
    return sum(2 if isinstance(module, Silent) else _is_linear(module) for module in block.modules())


def block_linears(block: nn.Module, block_path: str, block_number: int) -> list[LinearRef]:
    """The prunable matrices of one block in module order; `block_path` is the block's own, e.g. "model.layers.0".

    A stacked expert parameter gives one reference per expert. Raises UserError when the orientation of stacked
    experts cannot be told, or when most of the block's weights are in a form this function does not know.
    """
    refs: list[LinearRef] = []
    claimed: set[int] = set()
    for path, module, parameter, tensor in _matrices(block):
        stacked = tensor.ndim == 3
        transposed = _is_transposed(module, block, f"{block_path}.{path}") if stacked else isinstance(module, Conv1D)
        rows, cols = reversed(tensor.shape[-2:]) if transposed else tensor.shape[-2:]
        inner = f"{path}.{parameter}" if stacked else path
        for expert in range(tensor.shape[0]) if stacked else [None]:
            name = f"{block_path}.{inner}" + ("" if expert is None else f".{expert}")
            layer = Layer(name, role_of(inner), block_number, rows, cols)
            refs.append(LinearRef(layer, path, parameter, expert, transposed))
        claimed.add(id(tensor))
    _check_complete(block, block_path, claimed)
    return refs


def _matrices(block: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    """(module path, module, parameter name, tensor) of each linear and each 3-D stack of experts, routers left out."""
    for path, module in block.named_modules():
        if is_router(path):
            continue
        if _is_linear(module):
            yield path, module, "weight", module.weight
        else:
            for name, tensor in module.named_parameters(recurse=False):
                is_stack = hasattr(module, "is_transposed") or tensor.shape[0] == getattr(module, "num_experts", None)
                if tensor.ndim == 3 and is_stack:
                    yield path, module, name, tensor


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def is_router(path: str) -> bool:
    """A router or the gate of a (shared) expert chooses among experts; gate_proj is an ordinary matrix."""
    return any("router" in name or name == "gate" or name.endswith("expert_gate") for name in path.split("."))


def _is_transposed(module: nn.Module, block: nn.Module, path: str) -> bool:
    """Whether the 3-D parameters of `module` are (experts, in, out). UserError when nothing tells.

    A square stack says nothing by itself; another module of the same class in the block may.
    """
    for sibling in (module, *(other for other in block.modules() if type(other) is type(module))):
        verdict = _told_transposed(sibling)
        if verdict is not None:
            return verdict
    shapes = {name: tuple(tensor.shape) for name, tensor in module.named_parameters(recurse=False)}
    raise UserError(
        f"{path}: cannot tell whether the stacked experts {shapes} are (experts, out, in) or (experts, in, out); give "
        "the module an attribute is_transposed = False or True"
    )


def _told_transposed(module: nn.Module) -> bool | None:
    """The module's own word; else what its shapes say beside its sizes; None when both readings fit or neither."""
    flag = getattr(module, "is_transposed", None)
    if isinstance(flag, bool):
        return flag
    hidden = getattr(module, "hidden_size", getattr(module, "hidden_dim", None))
    shape = {name: tuple(tensor.shape[1:]) for name, tensor in module.named_parameters(recurse=False)}
    down = shape.get("down_proj", (None, None))
    plain, flipped = [], []
    if "gate_up_proj" in shape and down[0]:  # gate and up are fused, so this pair is never ambiguous
        plain.append(shape["gate_up_proj"] == (2 * down[1], down[0]))
        flipped.append(shape["gate_up_proj"] == (down[1], 2 * down[0]))
    elif "up_proj" in shape and hidden is not None:
        plain.append(shape["up_proj"][1] == hidden)
        flipped.append(shape["up_proj"][0] == hidden)
    elif hasattr(module, "input_size") and hasattr(module, "output_size"):
        plain += [sizes == (module.output_size, module.input_size) for sizes in shape.values() if len(sizes) == 2]
        flipped += [sizes == (module.input_size, module.output_size) for sizes in shape.values() if len(sizes) == 2]
    reads_plain, reads_flipped = bool(plain) and all(plain), bool(flipped) and all(flipped)
    return None if reads_plain == reads_flipped else reads_flipped


def _check_complete(block: nn.Module, block_path: str, claimed: set[int]) -> None:
    """UserError when the block keeps more weights in matrices that were not recognised than in those that were."""
    known = sum(tensor.numel() for tensor in block.parameters() if id(tensor) in claimed)
    missed = {
        f"{path}.{name}": tuple(tensor.shape)
        for path, module in block.named_modules()
        for name, tensor in module.named_parameters(recurse=False)
        if tensor.ndim >= 2 and id(tensor) not in claimed and not is_router(path)
        and not isinstance(module, nn.Embedding | nn.modules.conv._ConvNd)
    }  # fmt: skip
    n_missed = sum(torch.Size(shape).numel() for shape in missed.values())
    if n_missed > known:
        name = max(missed, key=lambda path: torch.Size(missed[path]).numel())
        raise UserError(
            f"{block_path}: {n_missed:,} weights are in parameters that are not known as linears ({known:,} are), e.g. "
            f"{name} of shape {missed[name]}; this architecture cannot be pruned yet"
        )
