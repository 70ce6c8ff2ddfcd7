"""A model beside its array in RTL, as asked for on the command line."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.files import check_writable_folder, write_text
from workloads.importers import read_mask
from workloads.mask import PackedMask

PICTURES = (".svg", ".png", ".pdf")


@dataclass(frozen=True)
class Wanted:
    """bundle or mask: what is run in place of random groups. layers: of the bundle, from the first. group: the one of
    the waveform and the figure. out: a CSV of every tile."""

    bundle: Path | None = None
    mask: Path | None = None
    layers: int | None = None
    groups: int | None = None
    waveform: Path | None = None
    group: int | None = None
    out: Path | None = None
    figure: Path | None = None


def check_rtl(model: str, wanted: Wanted, say: Callable[[str], None]) -> bool:
    """Whether all that was run agrees but for named constants; a line for each design and layer. Raises UserError for a
    model without RTL, for what does not go together, and where Verilator is missing."""
    from validation.rtl.checking import GROUPS, check_model, numbered
    from validation.rtl.figure import traced, write_figure
    from validation.rtl.toolchain import why_not

    refuse(wanted)
    if reason := why_not():
        raise UserError(reason)
    layers = numbered(chosen(wanted), wanted.layers)
    agrees, table, used = True, ["layer,design,block,tile,rtl_cycles,model_cycles,explained_by"], set()
    for checked in check_model(model, layers, wanted.groups or GROUPS):
        say(str(checked))
        agrees = agrees and checked.agrees
        used |= {(name, checked.design.constants[name]) for name in checked.tally.named}
        where = f'{checked.layer.name},"{checked.design}"'
        table += [f"{where},{','.join(map(str, tile))}" for tile in checked.tiles]
    for name, meaning in sorted(used):
        say(f"{name}: {meaning}")
    say("RTL and model agree" if agrees else "RTL and model DIFFER")
    if wanted.out:
        write_text(wanted.out, "\n".join(table) + "\n")
    if wanted.waveform:
        traced(model, layers[0], wanted.group or 0, wanted.waveform)
        say(str(wanted.waveform))
    if wanted.figure:
        write_figure(model, layers[0], wanted.group or 0, wanted.figure)
        say(str(wanted.figure))
    return agrees


def refuse(wanted: Wanted) -> None:
    if wanted.bundle is not None and wanted.mask is not None:
        raise UserError("give a bundle or `mask`, not both")
    if wanted.layers is not None and wanted.bundle is None:
        raise UserError("`layers` counts those of a bundle: give one")
    if wanted.groups is not None and (wanted.bundle or wanted.mask):
        raise UserError("`groups` counts random masks; a bundle and `mask` have blocks of their own")
    if wanted.group is not None and wanted.waveform is None and wanted.figure is None:
        raise UserError("`group` says which one `waveform` or `figure` is of: give that")
    if wanted.group is not None and wanted.group < 0:
        raise UserError(f"`group` is counted from 0, not {wanted.group}")
    if wanted.figure is not None and wanted.figure.suffix not in PICTURES:
        raise UserError(f"`figure` is a picture ({', '.join(PICTURES)}), not {wanted.figure}")
    for path in (wanted.out, wanted.waveform, wanted.figure):
        if path is not None:
            check_writable_folder(path.parent)
    for name in ("layers", "groups"):
        if getattr(wanted, name) is not None and getattr(wanted, name) < 1:
            raise UserError(f"`{name}` is a number from 1 on, not {getattr(wanted, name)}")


def chosen(wanted: Wanted) -> Iterable[tuple[str, PackedMask | None]]:
    if wanted.mask is not None:
        return [(wanted.mask.name, read_mask(wanted.mask))]
    if wanted.bundle is not None:
        return ((entry.name, mask) for entry, mask in MaskBundle.open(wanted.bundle))
    return [("random masks", None)]
