"""Which layers of a model are meant: one language for the command line, studies and generators.

    q              a role                       blocks:0-15   decoder blocks 0 to 15      *.mlp.*   names, by * ? [abc]
    gate,up        any of these                 blocks:2-     from block 2 on             a name with a dot is taken
    whole

`only` chooses and `skip` takes away. Several `only` narrow: "gate,up" and "blocks:0-15" are gate and up of the blocks 0
to 15. Several `skip` each take away. Nothing given: every layer."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from workloads.errors import NotForThisModel, UserError, meant
from workloads.layers import Layer, role_rank

RANGE = re.compile(r"blocks:(\d{1,9})(-(\d{1,9})?)?")


@dataclass(frozen=True)
class Term:
    """One part of a selector: a role, a range of blocks (last None: to the end) or a glob on names."""

    text: str
    first: int | None = None
    last: int | None = None

    def matches(self, layer: Layer) -> bool:
        if self.first is not None:
            return self.first <= layer.block and (self.last is None or layer.block <= self.last)
        if self.is_glob:
            return fnmatchcase(layer.name, self.text)
        return layer.role == self.text

    @property
    def is_glob(self) -> bool:
        return any(character in self.text for character in "*?[.")

    def check(self, option: str, layers: Sequence[Layer]) -> None:
        """Raises NotForThisModel, telling what there is, unless some layer matches and the range ends within the
        model."""
        deepest = max((layer.block for layer in layers), default=-1)
        if self.last is not None and self.last > deepest >= (self.first or 0):
            raise NotForThisModel(
                f"{option} {self.text} reaches beyond the last block; {what_there_is(layers)}; write "
                f"blocks:{self.first}- for all from {self.first} on"
            )
        if not any(map(self.matches, layers)):
            what = "name is like" if self.is_glob else "layer is in" if self.first is not None else "layer has the role"
            hint = meant(self.text, dict.fromkeys(layer.role for layer in layers)) if what.endswith("role") else ""
            raise NotForThisModel(f"{option}: no {what} {self.text!r}; {hint}{what_there_is(layers)}")


@dataclass(frozen=True)
class Selection:
    """The layers that `only` chooses and `skip` leaves. Raises UserError for texts that are no selectors."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for option, texts in (("only", self.only), ("skip", self.skip)):
            object.__setattr__(self, option, tuple(texts))
            for text in texts:
                terms(option, text)

    @property
    def everything(self) -> bool:
        return not self.only and not self.skip

    @property
    def text(self) -> str:
        """ "only gate,up, blocks:0-15, without o"; "" if everything."""
        parts = [f"only {' in '.join(self.only)}"] if self.only else []
        return ", ".join(parts + ([f"without {', '.join(self.skip)}"] if self.skip else []))

    def names(self, layers: Iterable[Layer]) -> frozenset[str]:
        """Of the layers that are meant. Raises NotForThisModel, which says what there is, for a part that no layer of
        the model matches, and where nothing is left."""
        layers = list(layers)
        chosen = layers
        for option, texts in (("only", self.only), ("skip", self.skip)):
            for text in texts:
                parts = terms(option, text)
                for part in parts:
                    part.check(option, layers)
                wanted = option == "only"
                chosen = [layer for layer in chosen if any(part.matches(layer) for part in parts) == wanted]
        if not chosen:
            raise NotForThisModel(
                f"no layer is left by {self.text!r}; {what_there_is(layers)}; several `only` narrow, commas widen: q,k "
                "is both"
            )
        return frozenset(layer.name for layer in chosen)


EVERYTHING = Selection()


def terms(option: str, text: str) -> list[Term]:
    """The parts of a selector that stand between commas. Raises UserError for one that is empty or no range of
    blocks."""
    return [_term(option, text, part.strip()) for part in text.split(",")]


def _term(option: str, text: str, part: str) -> Term:
    if not part:
        raise UserError(
            f"{option} {text!r} names nothing between its commas; give roles (q), blocks:0-15 or names (*.mlp.*)"
        )
    if not part.startswith("blocks"):
        return Term(part)
    match = RANGE.fullmatch(part)
    if not match:
        raise UserError(
            f"{option} {part!r} is no range of blocks; write blocks:3, blocks:0-15 or blocks:2- (to the end)"
        )
    first = int(match[1])
    last = first if match[2] is None else None if match[3] is None else int(match[3])
    if last is not None and last < first:
        raise UserError(f"{option} {part!r} ends before it begins; write blocks:{last}-{first}")
    return Term(part, first, last)


def what_there_is(layers: Sequence[Layer]) -> str:
    """ "there are the roles q k v o and the blocks 0-31, names are like model.layers.0.self_attn.q_proj" """
    roles = " ".join(sorted({layer.role for layer in layers}, key=lambda role: (role_rank(role), role)))
    blocks = sorted({layer.block for layer in layers})
    where = f"block {blocks[0]}" if len(blocks) == 1 else f"blocks {blocks[0]}-{blocks[-1]}"
    return f"there are the roles {roles} and the {where}, names are like {layers[0].name}"
