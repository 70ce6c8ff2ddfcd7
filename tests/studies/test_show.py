"""prunesim show and ls: accelerators of layers and of attention, and the constants of energy."""

import pytest

from measurement.published import names as records
from simulator.accelerators import ACCELERATORS
from simulator.accelerators.named import open_accelerator
from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
from simulator.accelerators.vitcod.attention.target import open_attention
from simulator.energy import sources
from simulator.gpu import GPUS
from simulator.gpu.named import find_gpu
from studies.checking import check_laws, is_bundle
from studies.cli.ls_verb import lines_of, ls
from studies.cli.main import main
from studies.cli.show_verb import show
from studies.kinds import LISTS, kind_of
from workloads.errors import UserError


def test_ls_says_what_each_runs(capsys):
    ls("accelerators")
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == [*ACCELERATORS, *ATTENTION_MODELS]
    assert all("runs attention" in lines[name] for name in ATTENTION_MODELS)
    assert all("runs linear" in lines[name] for name in ACCELERATORS)


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


@pytest.mark.parametrize("name", [*ACCELERATORS, *GPUS, *ATTENTION_MODELS])
def test_what_show_prints_as_toml_is_what_on_reads(name, tmp_path, capsys):
    show(name, toml=True)
    (tmp_path / f"{name}.toml").write_text(capsys.readouterr().out)
    file = str(tmp_path / f"{name}.toml")
    if name in GPUS:
        assert find_gpu(file) == find_gpu(name)
    elif name in ATTENTION_MODELS:
        assert open_attention(file) == open_attention(name)
    else:
        assert open_accelerator(file) == open_accelerator(name)


def test_a_machine_file_is_shown_whole(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text('base = "sparten"\n[array]\nclusters = 16\n')
    show(f"{tmp_path}/mine.toml", toml=True)
    (tmp_path / "again.toml").write_text(capsys.readouterr().out)
    assert open_accelerator(f"{tmp_path}/again.toml") == open_accelerator(f"{tmp_path}/mine.toml")
    show(f"{tmp_path}/mine.toml")
    text = capsys.readouterr().out
    assert "clusters = 16" in text
    assert "SparTen" in text


def test_a_gpu_file_is_shown_as_it_was_given(tmp_path, capsys):
    (tmp_path / "card.toml").write_text('base = "h100-sxm"\n[power]\nlimit_w = 350\n')
    show(f"{tmp_path}/card.toml", toml=True)
    (tmp_path / "again.toml").write_text(capsys.readouterr().out)
    assert find_gpu(f"{tmp_path}/again.toml") == find_gpu(f"{tmp_path}/card.toml")


def test_a_class_of_a_file_is_shown_whatever_its_kind(tmp_path, capsys):
    (tmp_path / "own.py").write_text(
        '"""Of my own."""\nfrom simulator.accelerators.vitcod.cycle import Vitcod\n'
        "from pruning.methods.wanda import Wanda\n"
        "class Chip(Vitcod):\n    name = 'chip'\n    preset = 'vitcod'\n"
        "class Way(Wanda):\n    name = 'way'\n"
    )
    show(f"{tmp_path}/own.py:Chip")
    assert "Of my own." in (text := capsys.readouterr().out)
    assert f'base = "{tmp_path}/own.py:Chip"' in text
    show(f"{tmp_path}/own.py:Way")
    assert "Rules (--rule" in capsys.readouterr().out
    with pytest.raises(UserError, match="unknown name 'Chap'"):
        show(f"{tmp_path}/own.py:Chap")


def test_only_machines_are_toml():
    with pytest.raises(UserError, match="wanda is none"):
        show("wanda", toml=True)


def listed(*but: str) -> list[str]:
    return [name for kind in LISTS if kind not in but for name, _ in lines_of(kind)]


@pytest.mark.parametrize("name", listed())
def test_every_name_that_ls_has_is_shown(name, capsys):
    show(name)
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    "name", [*ATTENTION_MODELS, "energy", *sorted(set(listed("accelerators", "methods")) - {*records()})]
)
def test_what_has_no_laws_says_what_can_be_done_instead(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["check", name])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.count("\n") == 1
    assert said.startswith(f"prunesim: {name}: ")
    verb = {"attention": "check", "gpus": "check", "energy": "show energy", "models": "generate"}
    assert f"`prunesim {verb.get(kind_of(name), '')}" in said


def test_commands_that_are_named_instead_can_be_given():
    """`check` of a GPU names a record that ships, `check` of a table its replay."""
    with pytest.raises(UserError, match="`prunesim check slidesparse-h100-pcie` compares"):
        next(check_laws("h100-pcie"))
    assert "slidesparse-h100-pcie" in records()
    with pytest.raises(UserError, match="`prunesim measure` with `replay` operators has its rows"):
        next(check_laws("operators"))


def test_folders_and_files_are_told_apart(tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama", "hidden_size": 8}')
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    show(str(tmp_path / "model"))
    assert '"hidden_size": 8' in capsys.readouterr().out
    assert not is_bundle(tmp_path / "model")
    for name, said in (
        (tmp_path, "neither of masks (bundle.json) nor of a model (config.json)"),
        (tmp_path / "rows.csv", "not a record"),
        ("methods", "see `prunesim ls methods`"),
        ("crepe:tiny/3", ""),
    ):
        if said:
            with pytest.raises(UserError) as told:
                show(str(name))
            assert said in str(told.value)
        else:
            show(str(name))
            assert "CREPE" in capsys.readouterr().out
