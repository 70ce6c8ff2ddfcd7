"""prunesim simulate"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.cli.output import Whole, check_format, emit
from studies.progress import ProgressLine
from workloads.errors import UserError


def simulate(
    bundle: Path | None = None,
    /,
    *,
    on: Annotated[list[str], Parameter(negative="")],
    mask: Path | None = None,
    model: str | None = None,
    pattern: str = "unstructured",
    density: float | None = None,
    seed: Whole = 0,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    sweep: Annotated[list[str] | None, Parameter(negative="")] = None,
    tokens: Whole | None = None,
    phase: str = "",
    batch: Whole | None = None,
    prompt: Whole | None = None,
    context: Whole | None = None,
    include: str = "",
    activation_density: float = 1.0,
    routing: str = "uniform",
    halo_reuse: Annotated[bool, Parameter(negative="")] = False,
    dtype: str = "",
    trace: Path | None = None,
    layer: str = "",
    fresh: Annotated[bool, Parameter(negative="")] = False,
    format: str = "table",
    out: Path | None = None,
) -> None:
    """Cycles, bytes and energy of every layer of BUNDLE (or of --mask, or of generated masks for --model) on an
    accelerator.

    Parameters
    ----------
    bundle
        A folder of masks that prune, generate, import or finetune wrote.
    on
        An accelerator (prunesim ls accelerators), or a GPU, whose times are predicted; file.py:Name, a class of your
        own, which is run; or a machine file, my.toml, that says base = "vitcod" and what differs. Given more than once:
        rows of all.
    mask
        One .npy mask (out_features, in_features), boolean or 0/1, 1 = kept.
    model
        A catalog name, config.json or model folder; its masks are generated with --pattern, --density and --seed.
    pattern
        Of --model's masks: unstructured, block, row-skewed, column-skewed, or N:M such as 2:4.
    density
        Of --model's masks: the share kept, in (0, 1], 0.5 unless given; left out with N:M, which fixes it.
    seed
        Of --model's masks.
    set_
        key=value of the accelerator, e.g. array.height=16 (prunesim show NAME).
    sweep
        key=value,value,...: every layer on a design for each value, and for each combination where given more than
        once. Ranges: array.height=16:128:16 (both ends), array.height=16:256:x2.
    tokens
        Tokens that pass through each layer together: 1 for decoding one sequence, more for batches and prefill; 1
        unless given.
    phase
        prefill (--batch times --prompt tokens) or decode (--batch tokens), from which the tokens then follow.
    batch
        Sequences of --phase that run together, 1 unless given.
    prompt
        Tokens of each sequence that a prefill takes, 2048 unless given.
    context
        Keys that each new token of a decode step sees, its own among them, 2048 unless given; layers do not depend on
        it.
    include
        Rows of what is no layer of a block, too, as `prunesim inference` has it in --phase: attention, head, or both
        with a comma. Of a network without phases: moves, what it gathers and scatters.
    activation_density
        Share of nonzero inputs, at random places; only designs that skip zero inputs gain from it.
    routing
        How experts share the tokens: uniform (the router's choices are alike and independent), balanced (as few
        collisions as can be), or the tokens each expert saw: a .json or .csv file, or numbers with commas.
    halo_reuse
        Inputs that several windows of a convolution share come from DRAM once, not once for each window.
    dtype
        On GPUs (prunesim ls gpus): fp16, bf16, int8 or fp8; fp16 unless given.
    trace
        Also write the tiles of --layer over time to this file, for Perfetto (ui.perfetto.dev) or chrome://tracing.
    layer
        The layer to trace, by name or role (the first of that role); the first layer unless given.
    fresh
        Gather the statistics of the masks anew, also where the bundle's folder has them.
    format
        json, csv or table.
    out
        Write to this file instead of stdout.
    """
    check_format(format)
    from studies.cli.spelling import respelled
    from studies.designs import open_targets, parse_sweep
    from studies.gaps import warn_of_gaps
    from studies.multiples import multiples_notes
    from studies.phase_rows import checked_included, phase_of, rows_beside, tokens_of
    from studies.simulate import (
        check_halo,
        check_traceable,
        find_layer,
        open_source,
        simulate_frame,
        table_of,
        write_trace,
    )
    from workloads.conditions import Conditions
    from workloads.routing import has_experts
    from workloads.routing_counts import parse_routing

    asked = phase_of(phase, batch, prompt, context)
    roles = checked_included([each.strip() for each in include.split(",")] if include else [], asked)
    conditions = Conditions(tokens_of(asked, tokens), activation_density, parse_routing(routing), halo_reuse)
    targets = open_targets(on, set_ or [], [parse_sweep(each) for each in sweep or []], dtype)
    for target in targets:
        target.check(conditions)
    if trace is not None:
        check_traceable(targets)
    if trace is not None and model is not None:
        raise UserError("--trace needs a BUNDLE or --mask; prunesim generate makes a bundle of generated masks")
    if layer and trace is None:
        raise UserError("--layer names the layer of --trace FILE; give that too")
    source = open_source(bundle, mask, model, pattern, density, seed, fresh)
    check_halo(source, conditions)
    if routing != "uniform" and not has_experts(source.header):
        raise UserError(
            f"--routing {routing}: {source.header.model_id} has no config that says how many experts see a token"
        )
    if layer:
        find_layer(source, layer)
    progress = ProgressLine()
    more = rows_beside(roles, asked, conditions, source, targets)
    frame = simulate_frame(source, targets, conditions, progress, more)
    progress.close()
    if frame["feasible"].any():
        warn_of_gaps(frame)
    if trace is not None:
        write_trace(source, targets[0], conditions, layer, trace)
    emit(frame, format, out, table_of(frame, targets))
    for note in multiples_notes(frame, targets):
        sys.stderr.write(f"note: {respelled(note, ['prune'])}\n")
