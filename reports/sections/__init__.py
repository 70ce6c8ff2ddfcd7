"""The sections of a report in their order. A new one is a file here, and its line."""

from reports.contents import Contents
from reports.section import Report, named_apart
from reports.sections.by_sparsity import by_sparsity
from reports.sections.by_tokens import by_tokens
from reports.sections.compared import compared
from reports.sections.designs import designs
from reports.sections.energy import constants, energy
from reports.sections.equal_perplexity import at_equal_perplexity
from reports.sections.how_got import how_got
from reports.sections.in_short import in_short
from reports.sections.layers import layers
from reports.sections.levels import levels
from reports.sections.networks import networks
from reports.sections.over_time import over_time
from reports.sections.phases import phases
from reports.sections.provenance import provenance
from reports.sections.published_operators import published_operators
from reports.sections.quality import perplexity
from reports.sections.roles import roles
from reports.sections.search import search
from reports.sections.serving import serving
from reports.sections.serving_batches import serving_batches
from reports.sections.serving_contexts import serving_contexts
from reports.sections.serving_gains import serving_gains
from reports.sections.serving_roofline import serving_roofline
from reports.sections.serving_shares import serving_shares
from reports.sections.sources import sources
from reports.sections.spmm import spmm
from reports.sections.steps import steps
from reports.sections.what_was_run import what_was_run
from reports.sections.where_time_goes import by_block, ideal_to_real, per_role
from reports.sections.whole_model import what_cannot_run, whole_model

SECTIONS = [
    in_short,
    search,
    serving,
    # figures
    serving_shares,
    ideal_to_real,
    per_role,
    by_block,
    by_sparsity,
    by_tokens,
    phases,
    serving_roofline,
    serving_batches,
    serving_contexts,
    serving_gains,
    designs,
    over_time,
    # tables
    whole_model,
    steps,
    sources,
    published_operators,
    spmm,
    energy,
    perplexity,
    networks,
    at_equal_perplexity,
    compared,
    roles,
    levels,
    layers,
    # methods and notes
    how_got,
    what_cannot_run,
    constants,
    provenance,
]
# What is read first stands last, next to the prompt.
IN_TERMINAL = [sources, designs, whole_model, compared, roles, perplexity, networks, serving, search]


def report_of(contents: Contents) -> Report:
    made = [section for make in SECTIONS if (section := make(contents)) is not None]
    return Report(contents.title, what_was_run(contents), named_apart(made))


def in_terminal(contents: Contents) -> Report:
    made = [section for make in IN_TERMINAL if (section := make(contents)) is not None]
    return Report(contents.title, what_was_run(contents), made)
