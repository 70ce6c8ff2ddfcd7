"""The names that others give their masks."""

import json

import pytest

from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask_names import ModelLayers, NameRule, named, plain_name, read_rules

LAYERS = [
    Layer(f"model.layers.{block}.{path}", role, block, 8, 4)
    for block in (0, 1, 10)
    for path, role in (("self_attn.q_proj", "q"), ("self_attn.k_proj", "k"), ("mlp.up_proj", "up"))
]
MODEL = ModelLayers("tiny", LAYERS)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("model.layers.0.q_proj.weight", "model.layers.0.q_proj"), ("layers.0.q_proj.weight_mask", "layers.0.q_proj"),
        ("module.layers.0.q_proj.mask", "layers.0.q_proj"), ("_orig_mod.layers.0.q_proj_mask", "layers.0.q_proj"),
        ("layers.0.q_proj", "layers.0.q_proj"), (".weight", ".weight"), ("mask", "mask"),
    ],
)  # fmt: skip
def test_what_tools_put_around_a_name(given: str, plain: str) -> None:
    assert plain_name(given) == plain


@pytest.mark.parametrize(
    ("names", "given", "want"),
    [
        ("", "model.layers.10.self_attn.k_proj", "model.layers.10.self_attn.k_proj"),
        ("", "layers.10.self_attn.k_proj.weight", "model.layers.10.self_attn.k_proj"),
        ("", "wrapper.model.layers.1.mlp.up_proj", "model.layers.1.mlp.up_proj"),
        ("l{block}_{role}", "l10_up_proj", "model.layers.10.mlp.up_proj"),
        ("l{block}_{role}", "l0_q_proj.weight", "model.layers.0.self_attn.q_proj"),
        ("block{block}/{role}.npy", "block1/k_proj.npy", "model.layers.1.self_attn.k_proj"),
    ],
)
def test_a_layer_is_found_by_its_name(names: str, given: str, want: str) -> None:
    assert MODEL.find(named(given, read_rules(names)), given).name == want


@pytest.mark.parametrize("kind", ["json", "toml"])
def test_a_table_of_names(tmp_path, kind: str) -> None:
    table = {"blk.{block}.attn_q": "model.layers.{block}.self_attn.q_proj", "the one": "model.layers.1.mlp.up_proj"}
    path = tmp_path / f"names.{kind}"
    path.write_text(json.dumps(table) if kind == "json" else "".join(f'"{k}" = "{v}"\n' for k, v in table.items()))
    rules = read_rules(str(path))
    assert [named(n, rules).name for n in ("blk.10.attn_q.weight", "the one", "other")] == [
        "model.layers.10.self_attn.q_proj", "model.layers.1.mlp.up_proj", "other",
    ]  # fmt: skip
    first = named("blk.10.attn_q.weight", rules)
    assert (first.role, first.block, first.told) == ("q", 10, True)


def test_without_a_model_a_pattern_gives_block_and_role() -> None:
    made = named("l3_down_proj", read_rules("l{block}_{role}"))
    assert (made.name, made.role, made.block) == ("l3_down_proj", "down", 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("layers.2.self_attn.q_proj", "is of no layer of tiny, whose model.layers"),
        ("q_proj", "could be of 3 layers of tiny"),
        ("l0_q_proj", "`names` 'l{block}_{role}'"),
    ],
)  # fmt: skip
def test_names_that_say_no_layer(given: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        MODEL.find(named(given, []), f"file: {given}")
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"file: {given}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("l{block}", "neither a file nor a pattern"), ("nowhere.toml", "neither a file"),
        ("{block}{block}{role}", "stands once"),
        ({"a{block}": "b{blok}"}, "only those on the right"), ({}, "hold at least one"), ({"a": 1}, "table of texts"),
        ([], "table"),
        ("{", "JSON"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be(tmp_path, content, said: str) -> None:
    names = content
    if not isinstance(content, str) or content == "{":
        path = tmp_path / "names.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        names = str(path)
    with pytest.raises(UserError) as caught:
        read_rules(names)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "template", ["a.{block}}.{role}", "{{block}.{role}", "{block!r}.{role}", "{0}{block}", "{block.__class__}"]
)
def test_templates_have_holes_and_nothing_else_of_format_strings(template):
    made = named("l3_q", [NameRule("l{block}_{role}", template)]).name
    assert made == template.replace("{block}", "3").replace("{role}", "q")
