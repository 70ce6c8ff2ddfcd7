"""A model or a bundle that is asked for, and what it is on a runner: times, memory."""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from checkpoints.catalog import resolve_config
from checkpoints.decoders import decoder_of
from pruning.networks import is_network
from simulator.inference.runner import Numbers, Runner
from simulator.inference.steps import Times, times_of
from studies.configurations import MOST, Configuration
from studies.sparse_attention import SparseAttention
from workloads.bundle import HEADER_FILE, MaskBundle
from workloads.decoder.bundled import bundled
from workloads.decoder.dimensions import Decoder
from workloads.decoder.memory import Budget, Memory, largest_batch, largest_context, memory
from workloads.decoder.routed import has_experts, routed
from workloads.decoder.split import split
from workloads.errors import UserError
from workloads.phases import Generation, Phase
from workloads.routing import UNIFORM, Routing


@dataclass(frozen=True)
class Asked:
    """A model, or a bundle with what is left of it; `dense` is the same without masks. `routing`: how experts share
    the tokens, where it has some."""

    name: str
    method: str
    decoder: Decoder
    dense: Decoder
    bundle: MaskBundle | None = None
    attention: SparseAttention | None = None
    routing: Routing = UNIFORM

    def routed(self, routing: Routing) -> "Asked":
        """With its experts so; as it is where it has none. Raises UserError for counts that do not fit its blocks."""
        if not has_experts(self.dense):
            return self
        dense = routed(self.dense, routing)
        decoder = dense if self.bundle is None else bundled(dense, self.bundle)
        return replace(self, dense=dense, decoder=decoder, routing=routing)

    def on(self, runner: Runner, tokens: frozenset[int]) -> "OnRunner":
        """As a runner has it that phases of so many tokens are asked of. Raises UserError."""
        if self.bundle is None:
            return OnRunner(runner, self.decoder, self.dense, self.attention)
        return OnRunner(*runner.holding(self.dense, self.bundle, tokens), self.attention)


def open_model(text: str, attention: SparseAttention | None = None, routing: Routing = UNIFORM) -> Asked:
    """Of a bundle's folder, or whatever checkpoints/catalog.py takes for a model. Raises UserError, also for a
    `routing` of no experts."""
    found = _opened(text, attention)
    if routing.kind != UNIFORM.kind and not has_experts(found.dense):
        raise UserError(f"`routing` {routing.text}: {found.name} has no experts that a router chooses; leave it out")
    return found.routed(routing)


def _opened(text: str, attention: SparseAttention | None) -> Asked:
    if (Path(text) / HEADER_FILE).is_file():
        bundle = MaskBundle.open(text)
        header = bundle.header
        if not header.model_config:
            raise UserError(f"{text}: the bundle does not say of what model it is, so only its linears are known")
        dense = decoder_of(header.model_config)
        return Asked(header.model_id, header.method, bundled(dense, bundle), dense, bundle, attention)
    if Path(text).name == HEADER_FILE and Path(text).is_file():
        raise UserError(f"{text} is the header of a mask bundle; give its folder, {Path(text).parent}")
    if is_network(text):
        raise UserError(
            f"{text} is a network, which has no prefill and no decode; its layers are timed one by one, by `simulate` "
            "or `measure` of the masks that `prune` makes of it"
        )
    name, config = resolve_config(text)
    dense = decoder_of(config)
    return Asked(name, "", dense, dense, attention=attention)


@dataclass(frozen=True)
class OnRunner:
    """What is asked for, as a runner has it."""

    runner: Runner
    decoder: Decoder
    dense: Decoder
    attention: SparseAttention | None = None
    stored: dict[tuple[int, Numbers], Decoder] = field(default_factory=dict)

    def times(self, one: Configuration) -> Times:
        share = self._share(self.decoder, one.ranks)
        found = times_of(self.runner, share, one.work, one.numbers, one.stack)
        return self.attention.in_place(found, share, one.work, self.runner) if self.attention else found

    def unpruned_times(self, one: Configuration) -> Times:
        numbers = self.runner.dense_numbers(one.numbers)
        share = self._share(self.dense, one.ranks)
        found = times_of(self.runner, share, one.work, numbers, one.stack)
        return self.attention.unpruned(found, share, one.work, self.runner) if self.attention else found

    def is_unpruned(self, one: Configuration) -> bool:
        same = self.decoder is self.dense and self.attention is None
        return same and one.numbers == self.runner.dense_numbers(one.numbers)

    def _share(self, decoder: Decoder, ranks: int) -> Decoder:
        key = "share", ranks
        if key not in decoder.memo:
            decoder.memo[key] = split(decoder, ranks)
        found: Decoder = decoder.memo[key]
        return found

    def _stored(self, one: Configuration) -> Decoder:
        key = one.ranks, one.numbers
        if key not in self.stored:
            self.stored[key] = self.runner.as_stored(self._share(self.decoder, one.ranks), one.numbers)
        return self.stored[key]

    def memory(self, one: Configuration) -> tuple[Memory, int | None, int | None]:
        """What is needed, the most sequences that fit, and of the longest of these sequences the tokens in the cache;
        None where that is not known, or no sequence is too long."""
        own = self._stored(one)
        work, elements, budget = one.work, one.numbers.elements, one.budget
        together = partial(_together, work)
        of = budget or Budget(math.inf, one.reserve_bytes)
        needed = memory(own, work.batch, work.context, elements, of, together(work.context))
        if budget is None:
            return needed, None, None
        longest = largest_context(own, work.batch, elements, of, together)
        most = largest_batch(own, work.context, elements, of, together(work.context))
        return needed, most, longest if longest <= MOST else None


def _together(work: Generation | Phase, context: int) -> int:
    """Tokens of a sequence that pass at once, were there so many in the cache: the prompt of a generation, the new ones
    of a prefill, one of a decode step."""
    if isinstance(work, Phase) and work.name == "decode":
        return work.new
    return max(context - (work.past if isinstance(work, Phase) else work.new - 1), 1)
