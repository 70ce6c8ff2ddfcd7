"""How good networks are that are no language models: each by its own number."""

from reports.contents import Contents
from reports.section import PAPER, READ, TERMINAL, Section, Table
from reports.tables.networks import OF_ONE, network_table
from reports.tables.sums import groups
from reports.words.headings import by_name
from workloads.columns.networks import NETWORK_COLUMNS

COLUMNS = ["method", "target_name", "sparsity", "value", "value_spread", "seeds"]


def networks(contents: Contents) -> Section | None:
    table = network_table(contents.networks)
    if table.empty:
        return None
    only = READ | PAPER | (TERMINAL if contents.rows.empty else frozenset())
    blocks = []
    for key, same in groups(table, [*OF_ONE, "dense_value"]):
        said = f"{key['model']}: {key['metric']}, {key['better']} is better, over {key['samples']:,} samples"
        columns = [name for name in COLUMNS if name != "value_spread" or same[name].notna().any()]
        blocks.append(
            Table(same, columns, said, label="networks-", paper_caption=f"{said}.", known=by_name(NETWORK_COLUMNS),
                  only=only, fold=False)
        )  # fmt: skip
    return Section("Quality of other networks", blocks, files={"networks.csv": table})
