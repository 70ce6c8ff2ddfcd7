"""prunesim show and ls: accelerators of layers and of attention, and the constants of energy."""

import pytest

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
from simulator.energy import sources
from studies.cli.ls_verb import ls
from studies.cli.show_verb import show


def test_ls_marks_what_another_verb_runs(capsys):
    ls("accelerators")
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == [*ACCELERATORS, *ATTENTION_MODELS]
    assert all("verb `attention`" in lines[name] for name in ATTENTION_MODELS)
    assert not any("verb `attention`" in lines[name] for name in ACCELERATORS)


@pytest.mark.parametrize("name", [*ACCELERATORS, *ATTENTION_MODELS])
def test_show_prints_documentation_notes_and_keys(name, capsys):
    show(name)
    text = capsys.readouterr().out
    model = ACCELERATORS.get(name) or ATTENTION_MODELS[name]
    assert model.documentation.strip() in text
    assert all(note in text for note in model.notes)
    assert f"prunesim {'simulate' if name in ACCELERATORS else 'attention'} --on {name}" in text
    assert "[array]" in text


def test_show_energy_prints_every_constant_with_its_source(capsys):
    show("energy")
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == len(sources())
    for line, row in zip(lines, sources(), strict=True):
        assert line.startswith(row["name"])
        assert line.endswith(row["source"])


def test_without_a_name_ls_and_show_say_what_there_is(capsys):
    for verb in (ls, show):
        verb()
        said = capsys.readouterr().out
        for name in ("vitcod", "b200", "wanda", "gptq", "owl", "llama-7b"):
            assert name in said
