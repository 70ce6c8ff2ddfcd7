"""The language that chooses layers, against sets written out by hand."""

import pytest

from workloads.errors import NotForThisModel, UserError
from workloads.layers import Layer
from workloads.selectors import Selection

ROLES = {"q": "self_attn.q_proj", "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "down": "mlp.down_proj"}
LAYERS = [Layer(f"model.layers.{b}.{name}", role, b, 4, 8) for b in range(4) for role, name in ROLES.items()]


def short(selection: Selection) -> set[str]:
    """ "0q" for role q of block 0"""
    names = selection.names(LAYERS)
    return {f"{layer.block}{layer.role}" for layer in LAYERS if layer.name in names}


ALL = {f"{b}{role}" for b in range(4) for role in ROLES}


@pytest.mark.parametrize(
    ("only", "skip", "chosen"),
    [
        ((), (), ALL),
        (("q",), (), {"0q", "1q", "2q", "3q"}),
        (("gate, down",), (), {name for name in ALL if name[1:] in ("gate", "down")}),
        (("blocks:1-2",), (), {name for name in ALL if name[0] in "12"}),
        (("blocks:2-",), (), {name for name in ALL if name[0] in "23"}),
        (("blocks:3",), (), {name for name in ALL if name[0] == "3"}),
        (("blocks:0-3",), (), ALL),
        (("*.mlp.*",), (), {name for name in ALL if name[1:] in ("gate", "down")}),
        (("*.layers.[02].*_attn.?_proj",), (), {"0q", "0o", "2q", "2o"}),
        (("model.layers.1.mlp.down_proj",), (), {"1down"}),
        (("q,blocks:0",), (), {"0q", "1q", "2q", "3q", "0o", "0gate", "0down"}),  # commas widen
        (("q,o", "blocks:0-1"), (), {"0q", "0o", "1q", "1o"}),  # another one narrows
        ((), ("down",), {name for name in ALL if name[1:] != "down"}),
        ((), ("down", "blocks:1-"), {"0q", "0o", "0gate"}),  # each takes away
        (("*.mlp.*",), ("blocks:0-2", "gate"), {"3down"}),
    ],
)
def test_what_is_chosen(only: tuple[str, ...], skip: tuple[str, ...], chosen: set[str]) -> None:
    assert short(Selection(only, skip)) == chosen


@pytest.mark.parametrize(
    ("only", "skip", "message"),
    [
        (("qq",), (),
         r"only: no layer has the role 'qq'; did you mean 'q'\? there are the roles q o gate down and"),
        (("q,blocks:7",), (), r"only: no layer is in 'blocks:7'; .*blocks 0-3"),
        (("blocks:9-12",), (), r"no layer is in 'blocks:9-12'"),
        (("blocks:2-9",), (),
         r"only blocks:2-9 reaches beyond the last block; .*blocks 0-3.*; write blocks:2- for all"),
        ((), ("*.attn.*",), r"skip: no name is like '\*\.attn\.\*'; .* model\.layers\.0\.self_attn\.q_proj"),
        ((), ("x",), r"skip: no layer has the role 'x'"),
        (("q", "o"), (), r"no layer is left by 'only q in o'.*q,k is both"),
        ((), ("q,o", "*.mlp.*"), r"no layer is left by 'without q,o, \*\.mlp\.\*'"),
    ],
)  # fmt: skip
def test_what_no_layer_matches_is_told_with_what_there_is(only: tuple, skip: tuple, message: str) -> None:
    with pytest.raises(NotForThisModel, match=message) as caught:
        Selection(only, skip).names(LAYERS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names nothing between its commas"), ("q,,k", "names nothing"), (",", "names nothing"),
        ("blocks:", "no range of blocks"),
        ("blocks:a", "no range"), ("blocks:-3", "no range"), ("blocks:1-2-3", "no range"), ("blocks", "no range"),
        ("blocks:5-2", "ends before it begins; write blocks:2-5"), ("blocks:99999999999999999999", "no range"),
    ],
)  # fmt: skip
def test_texts_that_are_no_selectors(text: str, message: str) -> None:
    for option in ("only", "skip"):
        with pytest.raises(UserError, match=f"^{option} .*{message}"):
            Selection(**{option: (text,)})


def test_layers_outside_blocks_are_in_no_range() -> None:
    outside = Layer("mask", "other", -1, 4, 8)
    assert Selection(("other",)).names([outside, *LAYERS]) == {"mask"}
    with pytest.raises(NotForThisModel, match="block -1"):
        Selection(("blocks:0-",)).names([outside])
