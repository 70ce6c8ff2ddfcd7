"""Why something cannot be done, as a value: who needs how much of what, how much there is, and what would help."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """`where` (the smallest tile, a layer's name) needs `need` of `resource`, which holds `bound`, both in `unit`.
    Numbers, or words where a kind of thing is asked for; a need that is "" is the resource as a whole."""

    resource: str
    need: float | str = ""
    bound: float | str = ""
    unit: str = ""
    way_out: str = ""
    where: str = ""

    def __str__(self) -> str:
        where = self.where or "it"
        if self.need == "":
            text = f"{where} needs {self.resource}"
        elif isinstance(self.need, str) or isinstance(self.bound, str):
            text = f"{where} has {self.resource} {self.need}, where there is only {self.bound}"
        else:
            need, bound = (f"{number:,.10g} {self.unit}".rstrip() for number in (self.need, self.bound))
            text = f"{where} needs {need} in {self.resource}, which holds {bound}"
        return f"{text}; {self.way_out}" if self.way_out else text
