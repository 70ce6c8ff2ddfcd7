"""The catalog: names, published sizes, and what the user is told when a model cannot be found."""

import subprocess
import sys
from pathlib import Path

import pytest

from checkpoints.catalog import catalog_config, catalog_names, resolve_config
from checkpoints.catalog_layers import catalog_layers
from workloads.errors import UserError

NAMES = {
    "llama-7b", "llama-13b", "llama-30b", "llama-65b", "llama-2-7b", "llama-2-13b", "llama-2-70b",
    "llama-3-8b", "llama-3-70b", "llama-3.2-1b", "llama-3.2-3b", "opt-175b", "qwen2.5-7b",
}  # fmt: skip


def test_names_are_complete_and_sorted() -> None:
    assert catalog_names() == sorted(NAMES)


def _closed_form(config: dict) -> int:
    """Parameters by hand: embeddings, attention, feed-forward, norms, head."""
    hidden, layers, vocab = config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]
    if config["model_type"] == "opt":  # biases everywhere, two LayerNorms a block, learned positions with offset 2
        ffn = config["ffn_dim"]
        block = 4 * hidden * hidden + 2 * hidden * ffn + 4 * hidden + ffn + hidden + 4 * hidden
        return layers * block + vocab * hidden + (config["max_position_embeddings"] + 2) * hidden + 2 * hidden
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    biases = hidden + 2 * kv if config["model_type"] == "qwen2" else 0
    block = 2 * hidden * hidden + 2 * hidden * kv + biases + 3 * hidden * config["intermediate_size"] + 2 * hidden
    return layers * block + (1 if config["tie_word_embeddings"] else 2) * vocab * hidden + hidden


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("llama-7b", 6_738_415_616),
        ("llama-13b", 13_015_864_320),
        ("llama-30b", 32_528_943_616),
        ("llama-65b", 65_285_660_672),
        ("llama-2-7b", 6_738_415_616),
        ("llama-2-13b", 13_015_864_320),
        ("llama-2-70b", 68_976_648_192),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3-70b", 70_553_706_496),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.2-3b", 3_212_749_824),
        ("opt-175b", 174_604_468_224),
        ("qwen2.5-7b", 7_615_616_512),
    ],
)
def test_parameter_count(name: str, published: int) -> None:
    from checkpoints.discovery import meta_model

    config = catalog_config(name)
    assert _closed_form(config) == published
    model = meta_model(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == published
    assert type(model).__name__ == config["architectures"][0]
    assert all(parameter.is_meta for parameter in model.parameters())


def test_published_settings_that_counts_cannot_show() -> None:
    eps = {name: catalog_config(name).get("rms_norm_eps") for name in catalog_names()}
    assert {name for name, value in eps.items() if value == 1e-6} == {
        "llama-7b",
        "llama-13b",
        "llama-30b",
        "qwen2.5-7b",
    }
    context = {name: catalog_config(name)["max_position_embeddings"] for name in catalog_names()}
    assert (context["llama-7b"], context["llama-2-70b"], context["llama-3-8b"]) == (2048, 4096, 8192)
    assert catalog_config("llama-3-8b")["rope_theta"] == 500_000
    assert catalog_config("llama-3-70b")["num_key_value_heads"] == 8
    assert catalog_config("opt-175b")["tie_word_embeddings"] is True


def test_names_ignore_case_and_copies_are_fresh() -> None:
    model_id, config = resolve_config("LLaMA-7B")
    assert model_id == "llama-7b"
    assert config == catalog_config("llama-7b")
    config["hidden_size"] = 1
    assert catalog_config("llama-7b")["hidden_size"] == 4096


def test_folder_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "other.json").write_text('{"model_type": "opt"}')
    assert resolve_config(str(folder)) == ("my-model", {"model_type": "llama"})
    assert resolve_config(f"{folder}/") == ("my-model", {"model_type": "llama"})
    assert resolve_config(str(folder / "config.json")) == ("my-model", {"model_type": "llama"})
    assert resolve_config(str(folder / "other.json")) == ("other", {"model_type": "opt"})
    monkeypatch.chdir(folder)
    assert resolve_config(".")[0] == "my-model"


def test_catalog_name_wins_over_a_folder_until_a_slash_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llama-7b").mkdir()
    (tmp_path / "llama-7b" / "config.json").write_text('{"model_type": "gpt2"}')
    monkeypatch.chdir(tmp_path)
    assert resolve_config("llama-7b")[1]["model_type"] == "llama"
    assert resolve_config("./llama-7b") == ("llama-7b", {"model_type": "gpt2"})


@pytest.mark.parametrize("name", ["lama-7b", "llama7b", "Llama-7"])
def test_mistyped_name_gets_a_suggestion(name: str) -> None:
    for function in (catalog_config, resolve_config):
        with pytest.raises(UserError, match=r"did you mean .*'llama-7b'") as caught:
            function(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "  ", "zzz", "some-org/some-model", "no/such/config.json"])
def test_unknown_model_says_what_was_tried(name: str) -> None:
    with pytest.raises(UserError, match=r"neither a catalog name, nor a folder with a config.json, nor a .json file"):
        resolve_config(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "must be an object"),
        ('{"hidden_size": 8}', 'no "model_type"'),
        ('{"model_type": 3}', 'no "model_type"'),
        (None, "holds no config.json"),
    ],
)
def test_broken_folder(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        resolve_config(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_importing_the_catalog_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, checkpoints.catalog; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_layers_written_down_are_those_of_transformers(name: str) -> None:
    from checkpoints.discovery import discover_layers

    assert catalog_layers(catalog_config(name)) == discover_layers(catalog_config(name))


def test_catalog_layers_need_no_torch() -> None:
    code = (
        "import sys; from checkpoints.catalog import catalog_config as c;"
        "from checkpoints.catalog_layers import linears_of;"
        "from checkpoints.expert_defaults import completed;"
        "linears_of(completed(c('llama-7b'))); print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
