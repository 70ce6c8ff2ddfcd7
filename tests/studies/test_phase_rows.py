"""prunesim simulate in a phase: its tokens, and attention and the head beside the layers."""

from contextlib import suppress

import pytest

import prunesim as ps
from checkpoints.catalog_layers import catalog_layers
from studies.cli.main import main

CONFIG = {
    "model_type": "llama", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 500,
}  # fmt: skip
BOTH = ("attention", "head")


@pytest.fixture(scope="module")
def masks(tmp_path_factory) -> ps.MaskBundle:
    writer = ps.BundleWriter(
        tmp_path_factory.mktemp("phase") / "masks", ps.BundleHeader("m", "own", "unstructured", model_config=CONFIG)
    )
    for layer in catalog_layers(CONFIG):
        writer.add(layer, ps.PackedMask.dense(*layer.shape), "unstructured")
    return writer.finish()


@pytest.mark.parametrize("on", ["vitcod", "h100-sxm"])
@pytest.mark.parametrize(
    ("phase", "sizes", "tokens"),
    [("prefill", {"batch": 3, "prompt": 20}, 60), ("decode", {"batch": 4, "context": 50}, 4)],
)
def test_rows_are_those_of_the_tokens_and_of_inference(masks, on, phase, sizes, tokens):
    frame = ps.simulate(masks, on=on, phase=phase, **sizes, include=BOTH).frame
    layers = frame[~frame["role"].isin(BOTH)]
    assert layers.equals(ps.simulate(masks, on=on, tokens=tokens).frame)
    batch, prompt, new = (3, 20, 1) if phase == "prefill" else (4, 49, 2)
    rows = ps.inference(masks, on=on, batch=batch, prompt=prompt, generate=new, operations=True).frame
    for role, count in (("attention", 2), ("head", 1)):
        ours, theirs = frame[frame["role"] == role], rows[(rows["role"] == role) & (rows["phase"] == phase)]
        assert len(ours) == count
        assert ours["latency_us"].sum() == pytest.approx(theirs["latency_us"].sum())
        assert (ours["speedup"] == 1).all()
    assert frame["tokens"].unique().tolist() == [tokens]
    attention = frame[frame["role"] == "attention"].iloc[0]
    shape = (4 * 20, 20, 4 * 20 * 20) if phase == "prefill" else (4, 50, 4 * 50)
    assert (attention["out_features"], attention["in_features"], attention["nnz"]) == shape


def test_on_accelerators_the_phase_adds_up_to_the_whole_model(masks):
    """Layers, attention and head; the rest is what `inference` calls elementwise, and writing the cache."""
    frame = ps.simulate(masks, on="vitcod", phase="prefill", batch=2, prompt=16, include=BOTH).frame
    rows = ps.inference(masks, on="vitcod", batch=2, prompt=16, generate=1, operations=True).frame
    rest = rows[rows["kernel"].isin(["vector unit", "DRAM"])]["latency_us"].sum()
    assert frame["latency_us"].sum() + rest == pytest.approx(rows["latency_us"].sum())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "2"], "--batch is of a phase; say which with --phase"),
        (["--phase", "prefil"], "prefill"),
        (["--phase", "prefill", "--context", "9"], "prefill has no --context; it takes --prompt"),
        (["--phase", "decode", "--prompt", "9"], "decode has no --prompt; it takes --context"),
        (["--phase", "decode", "--tokens", "9"], "--tokens follow from the decode, 1 of them"),
        (["--phase", "decode", "--batch", "0"], "--batch 0: at least 1"),
        (["--include", "head"], "--include needs a --phase"),
        (["--phase", "decode", "--include", "norms"], "norms"),
    ],
)
def test_what_does_not_go_together_is_told(masks, arguments, message, capsys):
    capsys.readouterr()
    with suppress(SystemExit):
        main(["simulate", str(masks.folder), "--on", "vitcod", *arguments])
    said = capsys.readouterr().err
    assert message in said
