"""Methods that see calibration data: block after block, or several together, is run dense on what the pruned blocks
before it produce, decided, and run again to feed what follows."""

from collections.abc import Callable
from functools import partial

import torch

from pruning.block_job import Decision
from pruning.evidence.gradients import gradient_file
from pruning.evidence.needs import Need
from pruning.families import family_of
from pruning.forward.feeding import first_sample
from pruning.forward.hidden_states import Streams, hidden_file, micro_batches, read_hidden, write_hidden
from pruning.forward.shared import SharedWeights
from pruning.forward.walk import Walk
from pruning.parallel import ordered_map
from pruning.run.context import Run
from pruning.run.entries import add_all, apply
from pruning.run.jobs import decide, make_job, run_all


def prune_with_activations(run: Run) -> None:
    assert run.recipe.calibration is not None
    folder, count = run.writer.folder, len(run.refs)
    model = family_of(run.checkpoint).walk(run.checkpoint)
    data = run.recipe.calibration.data
    embedded = [model.embed(batch) for batch in micro_batches(data)]
    model.embed(first_sample(data))  # methods that learn run single sequences
    run.checkpoint.release(run.checkpoint.model)
    shared = SharedWeights(run.checkpoint, folder)
    first = next_block(run)
    last = max(number for number, block in enumerate(run.treated) if block)
    streams: Streams = {"inputs": embedded} | ({"dense": embedded} if Need.DENSE in run.recipe.needs else {})
    if 0 < first <= last:
        streams = read_hidden(folder, first, streams)
    del embedded
    for number in range(first):  # the killed run may not have come to delete its own
        hidden_file(folder, number).unlink(missing_ok=True)
        gradient_file(folder, number).unlink(missing_ok=True)
    batches = micro_batches(data)
    for numbers in spans(first, count, model.starts, run.recipe.method.together):
        run.progress("pruning", numbers[0], count)
        blocks = [run.checkpoint.load_block(number) for number in numbers]
        for number, block in zip(numbers, blocks, strict=True):
            shared.take_up(number, block)
        following, decisions = streams, dict[str, Decision]()
        goes_on = numbers[-1] < last
        if any(run.treated[number] for number in numbers):
            job = make_job(run, numbers, blocks, model, streams)
            decisions = decide(run, job)
            for number, block in zip(numbers, blocks, strict=True):
                apply(run, number, block, decisions)
                shared.keep(number, block)
            if goes_on:
                following = {"inputs": replaced(job.run, job.inputs, "dense" in streams)}
                if job.dense_outputs:
                    following["dense"] = job.dense_outputs
        elif goes_on:
            following = through(partial(run_all, model, numbers), streams)
        for number in numbers:
            names = {ref.layer.name for ref in run.treated[number]}
            add_all(run, number, {name: decision for name, decision in decisions.items() if name in names})
        if goes_on:
            following = advance(model, numbers[-1] + 1, batches, following)
            write_hidden(folder, numbers[-1] + 1, following)
        streams = following
        run.writer.commit()
        for number, block in zip(numbers, blocks, strict=True):
            run.checkpoint.release(block)
            hidden_file(folder, number).unlink(missing_ok=True)
            gradient_file(folder, number).unlink(missing_ok=True)
    shared.forget()


def next_block(run: Run) -> int:
    """The first that an unfinished run has not come to. One without matrices leaves no trace but the states that enter
    the next."""
    first, count = max((n + 1 for n in range(len(run.refs)) if run.is_written(n)), default=0), len(run.refs)
    while 0 < first < count and not run.names(first) and not hidden_file(run.writer.folder, first).exists():
        first += 1
    return first


def spans(first: int, count: int, starts: list[int], together: int) -> list[range]:
    """Blocks first to count - 1 in runs of `together`, the last of a stack shorter; `starts`: the first block of each
    stack."""
    found = list[range]()
    for start, end in zip(starts, [*starts[1:], count], strict=True):
        found += [range(n, min(n + together, end)) for n in range(start, end, together)]
    return [numbers for numbers in found if numbers[0] >= first]


def replaced(
    block: Callable[[torch.Tensor], torch.Tensor], batches: list[torch.Tensor], wanted: bool
) -> list[torch.Tensor]:
    """The states behind a block, in the place of those before it unless these are still wanted."""
    after = list(batches) if wanted else batches
    for number, batch in enumerate(ordered_map(block, batches)):
        after[number] = batch
    return after


def through(block: Callable[[torch.Tensor], torch.Tensor], streams: Streams) -> Streams:
    """The states behind a block that stays as it is; streams that are one stay one."""
    made = {id(batches): list(ordered_map(block, batches)) for batches in streams.values()}
    return {name: made[id(batches)] for name, batches in streams.items()}


def advance(model: Walk, number: int, batches: list[torch.Tensor], streams: Streams) -> Streams:
    """What enters block `number`; streams that are one stay one."""
    made = {id(states): model.advance_all(number, batches, states) for states in streams.values()}
    return {name: made[id(states)] for name, states in streams.items()}
