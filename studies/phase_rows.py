"""A phase in place of `tokens`, and rows of what is no layer of a model: a decoder's attention and head, what another
network moves by indices."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from checkpoints.decoders import decoder_of
from studies.simulate import Source
from workloads.bundle import BundleHeader, MaskBundle
from workloads.conditions import Conditions
from workloads.decoder.bundled import bundled
from workloads.decoder.dimensions import Decoder
from workloads.decoder.layout import layout
from workloads.errors import NotForThisModel, UserError, unknown
from workloads.facts import header_facts
from workloads.operations import DecoderOperation
from workloads.operations.causal import CausalAttention, LatentAttention
from workloads.operations.gemm import Gemm
from workloads.operations.moves import MOVES, moves_of
from workloads.patterns import DENSE
from workloads.phases import Phase, decode, prefill
from workloads.targets import Row, Target

if TYPE_CHECKING:
    from simulator.inference.runner import Numbers, Runner, Timed

OF_PHASES = ("attention", "head")
INCLUDED = (*OF_PHASES, MOVES)
PROMPT, CONTEXT = 2048, 2048  # where none is given


def phase_of(kind: str, batch: int | None, prompt: int | None, context: int | None) -> Phase | None:
    """None where no phase is asked for. Raises UserError for a kind that is none, and for sizes that it has not."""
    given = {
        name: size for name, size in (("batch", batch), ("prompt", prompt), ("context", context)) if size is not None
    }
    if not kind:
        if given:
            raise UserError(f"`{next(iter(given))}` is of a phase; say which with `phase`, prefill or decode")
        return None
    if kind not in ("prefill", "decode"):
        raise unknown("phase", kind, ("prefill", "decode"))
    other = "context" if kind == "prefill" else "prompt"
    if other in given:
        raise UserError(f"{kind} has no `{other}`; it takes `{'prompt' if kind == 'prefill' else 'context'}`")
    if small := next((name for name, size in given.items() if size < 1), ""):
        raise UserError(f"`{small}` {given[small]}: at least 1")
    if kind == "prefill":
        return prefill(batch or 1, prompt or PROMPT)
    return decode(batch or 1, context or CONTEXT)


def tokens_of(phase: Phase | None, tokens: int | None) -> int:
    """That pass through each layer together, 1 where nothing says. Raises UserError where both do."""
    if phase is None:
        return 1 if tokens is None else tokens
    if tokens is not None:
        raise UserError(f"`tokens` follow from the {phase.name}, {phase.tokens:,} of them; leave one of both out")
    return phase.tokens


def checked_included(names: Sequence[str], phase: Phase | None) -> tuple[str, ...]:
    """Raises UserError for what is none, and for what has no phase, or lacks one."""
    for name in names:
        if name not in INCLUDED:
            raise unknown("operation to `include`", name, INCLUDED)
    if phase is None and set(names) & set(OF_PHASES):
        raise UserError("`include` needs a `phase`, prefill or decode, as attention depends on its context")
    if phase is not None and MOVES in names:
        raise UserError(f"`include` {MOVES} is of networks, which have no phases; give `tokens`, the samples, instead")
    return tuple(name for name in INCLUDED if name in names)


def lacking(roles: Sequence[str], header: BundleHeader) -> str:
    """Why there are no rows of `roles` beside these masks; "" where there are."""
    if MOVES in roles:
        none = f"the masks of {header.model_id} come without a gather or scatter"
        return "" if moves_of(header.model_config) else none
    if not header.model_config:
        return "the masks come without the config of their model, so only its layers are known"
    try:
        decoder_of(header.model_config)
    except NotForThisModel as error:
        return str(error)
    return ""


def rows_beside(
    roles: Sequence[str], phase: Phase | None, conditions: Conditions, source: Source, targets: Sequence[Target]
) -> list[Row]:
    """Of `roles` as `checked_included` gives them; `conditions` are those of the layers, so that these rows stand in
    the same sums. Raises UserError where the masks do not say what there is, and for targets that run layers alone."""
    if roles and (why := lacking(roles, source.header)):
        raise UserError(f"`include` {', '.join(roles)}: {why}; leave it out")
    if MOVES in roles:
        return list(move_rows(conditions, source, targets))
    return list(Beside(phase, tuple(roles), conditions).rows(source, targets)) if phase and roles else []


def move_rows(conditions: Conditions, source: Source, targets: Sequence[Target]) -> Iterator[Row]:
    """Gathers and scatters, target by target, as `rows_beside`; those of the unpruned network. Tokens are samples."""
    from simulator.runners import runner_of

    moves, phase = moves_of(source.header.model_config), prefill(conditions.tokens, 1)
    for target in targets:
        runner, numbers = runner_of(target)
        for move in moves:
            timed = runner.time_of(move, [phase], numbers)
            sizes = move.rows, move.width, move.rows * move.width
            row = {**_facts(source, target, move, conditions, sizes), "spec_sha256": runner.sha256}
            yield {**row, **_figures(target, timed, timed)}


@dataclass(frozen=True)
class Beside:
    """What else than layers a decoder runs in a phase: `roles` of OF_PHASES."""

    phase: Phase
    roles: tuple[str, ...]
    conditions: Conditions

    def rows(self, source: Source, targets: Sequence[Target]) -> Iterator[Row]:
        """A row for each operation and target, in order. Raises UserError for targets that run layers alone."""
        from simulator.runners import runner_of  # with all that runs whole models, which layers alone do without

        dense = decoder_of(source.header.model_config)
        left = dense if source.folder is None else bundled(dense, MaskBundle.open(source.folder))
        for target in targets:
            runner, numbers = runner_of(target)
            own = {operation.name: timed for operation, timed in self._timed(runner, left, numbers)}
            for operation, before in self._timed(runner, dense, numbers):
                facts = _facts(source, target, operation, self.conditions, _sizes(operation, self.phase))
                row = {**facts, "spec_sha256": runner.sha256}
                yield {**row, **_figures(target, own.get(operation.name), before)}

    def _timed(
        self, runner: "Runner", decoder: Decoder, numbers: "Numbers"
    ) -> Iterator[tuple[DecoderOperation, "Timed"]]:
        known: dict[DecoderOperation, Timed] = {}
        for operation in layout(decoder, runner.fusion):
            if operation.role in self.roles:
                alike = replace(operation, name=operation.role, block=-1)
                if alike not in known:
                    known[alike] = runner.time_of(operation, [self.phase], numbers)
                yield operation, known[alike]


def _facts(
    source: Source, target: Target, operation: DecoderOperation, conditions: Conditions, sizes: tuple[int, int, int]
) -> Row:
    rows, cols, kept = sizes
    settings = f"{target.settings} {conditions.settings(source.header)}".strip()
    return {
        **header_facts(source.header), "layer": operation.name, "block": operation.block, "role": operation.role,
        "out_features": rows, "in_features": cols, "nnz": kept, "sparsity": 0.0, "layer_pattern": DENSE,
        "target": target.name, "settings": settings, "level": target.level, "source": target.source,
        "tokens": conditions.tokens, "layer_tokens": conditions.tokens, "executions": 1.0,
        "activation_density": conditions.activation_density if target.source == "simulated" else 1.0,
        "feasible": True, "reason": "",
    }  # fmt: skip


def _sizes(operation: DecoderOperation, phase: Phase) -> tuple[int, int, int]:
    """Outputs and inputs of a matrix, and its weights; of attention heads x queries of a sequence, and keys."""
    if isinstance(operation, Gemm):
        rows, cols = operation.out_features, operation.in_features
    else:
        assert isinstance(operation, CausalAttention | LatentAttention)
        causal = operation.as_causal(phase) if isinstance(operation, LatentAttention) else operation
        rows, cols = causal.heads * phase.new, causal.keys(phase)
    return rows, cols, rows * cols


def _figures(target: Target, own: "Timed | None", before: "Timed") -> dict[str, Any]:
    """Of what was taken out, nothing but what it took before."""
    us, dense_us = 0.0 if own is None else float(own.us[0]), float(before.us[0])
    found: dict[str, Any] = {
        "latency_us": us, "dense_latency_us": dense_us, "speedup": dense_us / us if us else None,
        "mapping": before.assumed,
    }  # fmt: skip
    if clock := getattr(target, "clock_mhz", None):
        found |= {"clock_mhz": clock, "cycles": math.ceil(us * clock), "dense_cycles": math.ceil(dense_us * clock)}
    else:
        found["kernel"] = before.kernel
    if own is None:
        return found
    error = float(own.error_p90[0])
    found |= {"bound": str(own.bound[0]), "extrapolated": str(own.extrapolated[0])}
    found |= {} if math.isnan(error) else {"latency_error_p90": error}
    if own.counts is not None:
        counts = own.counts[0]
        found["weight_bytes"] = round(counts.bytes_weight)
        found["activation_bytes"] = round(counts.bytes_act + counts.bytes_kv)
    return found
