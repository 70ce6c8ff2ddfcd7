"""What is refused before anything is built: layers, links, seeds, nesting, digits."""

import pytest

from checkpoints.catalog import catalog_config, resolve_config
from workloads import BundleHeader, UserError
from workloads.files import pretty_json, read_json, write_text
from workloads.limits import MAX_SEED, check_config, check_links
from workloads.parsing import parse_json, parse_toml


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("n_layer", 5000),
        ("num_local_experts", 10**6),
        ("hidden_size", 10**30),
        ("n_embd", 0),
    ],
)
def test_sizes_that_no_model_has_are_refused_at_once(key, value):
    for config in ({key: value}, {"text_config": {key: value}}):
        with pytest.raises(UserError, match=key):
            check_config(config, "config.json")


def test_every_config_of_the_catalog_is_within_the_limits():
    from checkpoints.catalog import catalog_names

    for name in catalog_names():
        check_config(catalog_config(name), name)


def test_links_may_lead_around_a_folder_and_into_the_blobs_of_its_cache_but_not_out(tmp_path):
    snapshot, blobs = tmp_path / "models--a" / "snapshots" / "1", tmp_path / "models--a" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "f00").write_text('{"model_type": "llama"}')
    (snapshot / "config.json").symlink_to(blobs / "f00")
    (snapshot / "same.json").symlink_to("config.json")
    check_links(snapshot)
    (tmp_path / "plain").symlink_to(snapshot)
    assert resolve_config(str(tmp_path / "plain"))[1] == {"model_type": "llama"}
    (tmp_path / "secret").write_text("s")
    (snapshot / "tokenizer.json").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=r"tokenizer\.json is a link that leads out"):
        resolve_config(str(snapshot))


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 10**300])
def test_seeds_beyond_64_bits(seed):
    assert BundleHeader("m", "x", seed=MAX_SEED).seed == MAX_SEED
    with pytest.raises(UserError, match="seed"):
        BundleHeader("m", "x", seed=seed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 5000 + "]" * 5000, "nested"),
        ('{"a":' * 200 + "1" + "}" * 200, "nested"),
        ("1" * 5000, "digits"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\udc80": 1}', "surrogate"),
        ("{", "Expecting"),
    ],
)
def test_json_that_is_wrong_is_a_value_error_of_one_line(text, said):
    with pytest.raises(ValueError, match=said) as error:
        parse_json(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 5000, "nested"),
        ("a." * 200 + "b = 1", "nested"),
        ("a = " + "1" * 5000, "digits"),
        ("a = 1\na = 2", "a|overwrite"),
    ],
)
def test_toml_that_is_wrong_is_a_value_error_of_one_line(text, said):
    with pytest.raises(ValueError, match=said) as error:
        parse_toml(text)
    assert "\n" not in str(error.value)


def test_whole_surrogate_pairs_and_ordinary_nesting_pass():
    assert parse_json('["\\ud83d\\ude00"]') == ["\U0001f600"]
    assert parse_json("[" * 50 + "]" * 50)
    assert parse_toml("a.b.c = 1") == {"a": {"b": {"c": 1}}}


def test_names_that_are_not_utf8_survive_in_our_own_json(tmp_path):
    name = "x\udc80y"
    header = BundleHeader(name, "x", parameters={"file": [name]})
    write_text(tmp_path / "f.json", pretty_json([header.model_id, header.parameters]))
    assert read_json(tmp_path / "f.json", "test") == ["x\\udc80y", {"file": ["x\\udc80y"]}]
    write_text(tmp_path / "f.txt", name)
    assert (tmp_path / "f.txt").read_text() == "x\\udc80y"
