"""The recurrent network against the package's own program, and on voices that are made; skipped where the package is
not installed."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from pruning.data.voices import CHUNK, CHUNKS, CONTEXT, utterances
from pruning.families.network import package_folder
from pruning.families.silero import Silero
from studies.prune import open_model

present = pytest.mark.skipif(find_spec("silero_vad") is None, reason="needs the package silero-vad, for its weights")


def test_voices_are_the_same_for_a_seed_and_overlap_by_their_context():
    chunks, spoken = utterances(3, 5)
    assert np.array_equal(chunks, utterances(3, 5)[0])
    assert not np.array_equal(chunks, utterances(3, 6)[0])
    assert chunks.shape == (3, CHUNKS, CHUNK + CONTEXT)
    assert np.array_equal(chunks[:, 1:, :CONTEXT], chunks[:, :-1, -CONTEXT:])
    assert not chunks[:, 0, :CONTEXT].any()
    assert 0.3 < spoken.mean() < 0.7


@present
def test_the_module_computes_what_the_packages_program_computes():
    program = torch.jit.load(package_folder("silero_vad") / "data" / "silero_vad.jit").eval()
    own = dict(program.state_dict())
    module = Silero(own["_model.stft.forward_basis_buffer"]).eval()
    names = {f"encoder.{n - 1}.reparam_conv": f"conv{n}" for n in range(1, 5)}
    found = {}
    for kind in ("weight", "bias"):
        for theirs, ours in names.items():
            tensor = own[f"_model.{theirs}.{kind}"]
            found[f"{ours}.{kind}"] = tensor[:, :, None] if kind == "weight" else tensor
        for side in ("ih", "hh"):
            found[f"lstm.{kind}_{side}_l0"] = own[f"_model.decoder.rnn.{kind}_{side}"]
        tensor = own[f"_model.decoder.decoder.2.{kind}"]
        found[f"final.{kind}"] = tensor.flatten(1) if kind == "weight" else tensor
    module.load_state_dict(found, strict=False)
    chunks = torch.from_numpy(utterances(1, 7)[0])
    with torch.no_grad():
        program.reset_states()
        wanted = [float(program(chunk[None, CONTEXT:], 16000)) for chunk in chunks[0]]
        torch.testing.assert_close(module(chunks)[0], torch.tensor(wanted), atol=2e-5, rtol=1e-4)


@present
def test_gates_apart_are_the_same_network():
    fused, split = open_model("silero", "float32"), open_model("silero:split", "float32")
    assert {f"lstm.layers.0.hidden.{gate}" for gate in "ifgo"} <= set(split.uses)
    for network in (fused, split):
        network.load_all()
    chunks = torch.from_numpy(utterances(2, 1)[0])
    torch.testing.assert_close(fused.run(chunks), split.run(chunks), atol=1e-6, rtol=1e-5)
