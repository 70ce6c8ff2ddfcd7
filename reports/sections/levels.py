"""A publication's own formula beside our cycle model, per role."""

from reports.contents import Contents
from reports.section import Section, Table
from reports.tables.layers import levels_table
from reports.words import statements

COLUMNS = [
    *("model", "target_paper", "settings_paper", "target_cycle", "settings_cycle", "tokens", "activation_density"),
    *("method", "pattern", "role", "sparsity"),
    *("published_speedup", "paper_speedup", "cycle_compute_speedup", "cycle_speedup", "cycle_stall_share"),
    *("paper_dense_cycles", "paper_cycles", "cycle_dense_cycles", "cycle_cycles", "layers"),
]
_SHARED = ("model", "target_paper", "target_cycle", "tokens")


def levels(contents: Contents) -> Section | None:
    table = contents.plain if contents.plain.empty else levels_table(contents.plain)
    if table.empty:
        return None
    shown = Table(table, COLUMNS, caption="Same masks, same tokens", shared=_SHARED, total_in="role")
    return Section("The two levels side by side", [shown], statements.WHY_LEVELS_DIFFER)
