"""Where the energy of each configuration goes, and where the constants are from that it rests on."""

from reports.charts.parts import chart_energies, parts_chart, spoken_parts
from reports.contents import Contents
from reports.figures.bars import energy_figure
from reports.section import PAGE, PAPER, TEXT, Block, Section, Table, Text
from reports.sections.configurations import Kind
from reports.sections.where_time_goes import alike_parts
from reports.tables.parts import energy_table
from reports.tables.sums import by
from reports.words import statements
from reports.words.units import in_units

_CAPTION = "Energy of one pass through the layers counted, summed over them; latency and EDP likewise"
COLUMNS = [
    *("model", "target", "tokens", "method", "pattern", "energy_ratio", "energy_pj", "dense_energy_pj", "settings"),
    *("activation_density", "mac_pj", "idle_pj", "register_pj", "buffer_pj", "dram_pj", "latency_us", "edp_pj_us"),
    *("edp_ratio", "area_mm2", "infeasible_layers", "no_baseline_layers"),
]
MAIN = [
    *("model", "target", "tokens", "method", "pattern", "energy_ratio", "energy_pj", "dense_energy_pj"),
    *("dram_pj", "edp_ratio", "infeasible_layers", "no_baseline_layers"),
]
_CONSTANT = {"name": "constant", "source": "constant_source"}  # other words than those of result rows
CONSTANT_COLUMNS = ["constant", "value", "unit", "node_nm", "constant_source"]


def energy(contents: Contents) -> Section | None:
    lines = contents.energy
    if lines.empty:
        return None
    said = f"{_CAPTION}. {statements.NOT_IN_ENERGY}"
    blocks: list[Block] = [
        *ENERGY.blocks(contents.with_cycles),
        Text(said, only=TEXT),
        Table(lines, COLUMNS, caption=_CAPTION, shared=("model",), units=in_units, fold=False, main=MAIN),
        Text(statements.NOT_IN_ENERGY, only=PAGE),
    ]
    for key, of_model in by(lines, ["model"]):
        columns = [name for name in COLUMNS if name != "model"]
        caption = f"{key['model']}: {said}"
        blocks.append(Table(of_model, columns, label="energy-", paper_caption=caption, units=in_units, only=PAPER))
    return Section("Energy per configuration", blocks)


def constants(contents: Contents) -> Section | None:
    if contents.constants.empty:
        return None
    table = contents.constants.rename(columns=_CONSTANT)
    shown = Table(table, CONSTANT_COLUMNS, caption="Constants of energy and area", fold=True)
    return Section("Where energies come from", [shown])


ENERGY = Kind(
    "energy",
    "Where the energy goes, per role",
    lambda rows: chart_energies(energy_table(rows)),
    parts_chart,
    spoken_parts,
    energy_figure,
    alike_parts,
)
