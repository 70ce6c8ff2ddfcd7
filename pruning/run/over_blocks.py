"""One pass over the blocks of a model that feeds each with what the ones before it put out, and can be stopped."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from pruning.evidence.needs import ACTIVATIONS
from pruning.forward.hidden_states import (
    Streams,
    hidden_file,
    micro_batches,
    read_hidden,
    read_tensors,
    write_hidden,
    write_tensors,
)
from pruning.forward.walk import Walk
from pruning.run.context import Run

Tensors = dict[str, torch.Tensor]
Step = Callable[[int, nn.Module, list[torch.Tensor]], tuple[Tensors, list[torch.Tensor]]]


def over_blocks(
    run: Run, model: Walk, what: str, file: Callable[[Run, int], Path], step: Step
) -> Iterator[tuple[int, nn.Module, Tensors]]:
    """(number, the loaded block, its tensors) of every block. `step` gets a block and the hidden states that enter it
    (batch, seq, hidden), and gives tensors to keep and the states that go on. Both are on disk after every block, the
    tensors in file(run, number), so a killed run goes on with the first block that has none; without calibration there
    are no states."""
    count, folder = len(run.refs), run.writer.folder
    done = next((n for n in range(count) if not file(run, n).exists()), count)
    calibration = run.recipe.calibration
    batches = micro_batches(calibration.data) if calibration is not None and run.recipe.needs & ACTIVATIONS else []
    streams: Streams = {"inputs": [model.embed(batch) for batch in batches]}
    run.checkpoint.release(run.checkpoint.model)
    run.writer.begin()
    if batches and 0 < done < count:
        streams = read_hidden(folder, done, streams)
    for number in range(count):
        run.progress(what, number, count)
        block = run.checkpoint.load_block(number)
        if number < done:
            tensors = read_tensors(file(run, number))
        else:
            tensors, after = step(number, block, streams["inputs"])
            if batches and number + 1 < count:
                streams = {"inputs": model.advance_all(number + 1, batches, after)}
                write_hidden(folder, number + 1, streams)
            write_tensors(file(run, number), tensors)
        yield number, block, tensors
        run.checkpoint.release(block)
        hidden_file(folder, number).unlink(missing_ok=True)
