"""What can be asked of a run that prunes for a speed; what it prunes with stands in PruneConfig."""

from dataclasses import dataclass

from pruning.config import setting
from workloads.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """The speed, where and when, and what may be chosen for it."""

    speedup: float | None = setting(
        "In place of a sparsity: how many times faster than the unpruned model the whole phase shall be on the machine "
        "`on`, with the final masks. Which matrix gets what follows from what it costs there and the error it makes."
    )
    on: str | None = setting(
        "The accelerator or GPU (prunesim ls), machine file or file.py:Name that the speed is on; or a record of "
        "measure (.csv, .parquet, or one that ships), whose linears alone then count."
    )
    phase: str | None = setting("decode (default) or prefill.")
    batch: int | None = setting("Sequences that run together (default 1).")
    context: int | None = setting("Of decode: keys that the token sees (default 2048).")
    prompt: int | None = setting("Of prefill: tokens of each prompt (default 2048).")
    choices: str | None = setting(
        "What a matrix may get, with commas: unstructured (a ladder of sparsities), N:M, bits:B (each mask also with B "
        "bits); neurons, heads, blocks: so many of them are taken out of each block first. Default: unstructured."
    )
    levels: int | None = setting("Sparsities of the ladder, from 0 to 0.875 (default 15).")
    errors: str | None = setting(
        "What the errors of choices are: probe (default; of each matrix's output, weighed by what one change of it "
        "does to the predictions), output (not weighed), kl (of the predictions, at every choice)."
    )
    also: str | None = setting(
        "More that the same masks shall meet, with commas: prefill:1.25 or decode:1.5 (the other phase), "
        "energy_pj:1.4, bytes:1.5 (of the pruned matrices, in `phase`), flop:2, parameters:2."
    )
    searches: int | None = setting(
        "Plans that the search of coefficients (SPDY) tries on the whole model, which it holds in memory (default 40; "
        "0: no search)."
    )

    cost: str | None = setting(
        "MACHINE:MEASURE, as vitcod:us (us, energy_pj, bytes, flop): budgets that are learned (besa) go to where they "
        "save cost there. In place of a sparsity, with a `budget`."
    )
    budget: float | None = setting("Of `cost`: the share that is left of what the unpruned matrices cost, as 0.6.")

    def check(self) -> None:
        """Raises UserError for what has no meaning without another, and for two ways to say how much goes."""
        if (self.cost is None) != (self.budget is None):
            raise UserError("`cost` and `budget` go together: what is counted, and the share of it that is left")
        if self.cost is not None:
            for name in ("speedup", "on", "choices", "errors", "searches", "also"):
                if getattr(self, name) is not None:
                    raise UserError(f"`cost` names the machine, and `budget` how much is left; leave `{name}` out")
            return
        if self.speedup is None:
            given = [name for name, value in vars(self).items() if value is not None]
            if given:
                raise UserError(f"`{given[0]}` is of pruning for a speed; give the `speedup` that is wanted")
            return
        if not 1 <= self.speedup < float("inf"):
            raise UserError(f"`speedup` {self.speedup:g}: at least 1, as in 1.5 for two thirds of the time")
        if self.searches is not None and self.searches < 0:
            raise UserError(f"`searches` {self.searches}: 0 for none, or how many plans are tried")
        if self.on is None:
            raise UserError(f"`speedup` {self.speedup:g} is on a machine; say which with `on`, vitcod for example")
