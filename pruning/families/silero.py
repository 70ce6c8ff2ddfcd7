"""Silero VAD: four convolutions and an LSTM that hear, 32 ms after 32 ms, whether somebody speaks.

The magnitudes of a short Fourier transform, four
convolutions, an LSTM and a linear. Weights are the safetensors of the package silero-vad, at 16 kHz; none of its code
is run.

A sample is a second of sound, 32 chunks of 512 values, each with the 64 before it; the LSTM begins anew with each
sample. Quality is the share of chunks that are heard rightly as speech or not (from 0.5 on), half of it from either
kind, over synthesised voices and noises. The Fourier transform is no learned matrix and stays as it is.
`silero:split` has a matrix for each gate of the LSTM instead of one for all four.
"""

from pathlib import Path
from typing import ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import conv2d, pad

from pruning.data.voices import CHUNK, CHUNKS, CONTEXT, utterances
from pruning.families.family import Better
from pruning.families.network import NetworkFamily, Run, apart_as_events, package_folder
from workloads.errors import UserError, unknown

VARIANTS = ("", "split")
BINS, WINDOW, HOP, PADDED = 129, 256, 128, 64
EVALUATED, EVALUATION_SEED, THRESHOLD = 128, 20201214, 0.5


class Silero(nn.Module):
    """(samples, chunks, 576) -> (samples, chunks) shares of speech. Chunks are rows of an image, so that the
    convolutions over a chunk have windows of one row."""

    def __init__(self, transform: torch.Tensor):
        super().__init__()
        self.register_buffer("transform", transform[:, :, None])  # (2 x bins, 1, 1, window)
        sizes = ((BINS, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1))
        for number, (before, after, stride) in enumerate(sizes, start=1):
            self.add_module(f"conv{number}", nn.Conv2d(before, after, (1, 3), (1, stride), (0, 1)))
        self.lstm = nn.LSTM(128, 128, batch_first=True)
        self.final = nn.Linear(128, 1)

    def forward(self, chunks: torch.Tensor) -> torch.Tensor:
        sound = pad(chunks, (0, PADDED), mode="reflect")[:, None]
        waves = conv2d(sound, self.transform, stride=(1, HOP))  # type: ignore[arg-type]
        states = (waves[:, :BINS].square() + waves[:, BINS:].square()).sqrt()
        for number in range(1, 5):
            states = torch.relu(self.get_submodule(f"conv{number}")(states))
        heard, _ = self.lstm(states.squeeze(-1).transpose(1, 2))
        return torch.sigmoid(self.final(torch.relu(heard))).squeeze(-1)


class SileroFamily(NetworkFamily):
    __doc__ = __doc__
    name = "silero"
    metric: ClassVar[str] = "chunks heard rightly (share, both kinds alike)"
    better: ClassVar[Better] = "higher"
    sample: ClassVar[str] = "second of sound"

    def build(self, variant: str) -> nn.Module:
        if variant not in VARIANTS:
            raise unknown(f"variant of {self.name}", variant, VARIANTS)
        self.split_gates = variant == "split"  # type: ignore[misc]
        file = weights_file()
        try:
            found = load_file(file)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file} cannot be read ({error}); install silero-vad again") from None
        model = Silero(found["stft_conv.weight"])
        model.load_state_dict(own_names(found), strict=False)
        return model

    def files(self, model: str) -> list[Path]:
        return [*super().files(model), weights_file()]

    def samples(self, count: int, seed: int) -> torch.Tensor:
        return torch.from_numpy(utterances(count, seed)[0])

    def distance(self, output: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        return apart_as_events(output, dense)

    def measure(self, run: Run) -> tuple[float, int]:
        chunks, spoken = map(torch.from_numpy, utterances(EVALUATED, EVALUATION_SEED))
        heard = torch.cat([run(batch) for batch in chunks.split(16)]).cpu() >= THRESHOLD
        right = [float((heard[spoken == kind] == kind).double().mean()) for kind in (True, False)]
        return sum(right) / 2, EVALUATED * CHUNKS


def weights_file() -> Path:
    return package_folder("silero_vad") / "data" / "silero_vad_16k.safetensors"


def own_names(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The file's tensors by the names and in the shapes that the module has for them."""
    made = {}
    for name, tensor in found.items():
        part, _, kind = name.partition(".")
        if part == "lstm_cell":
            made[f"lstm.{kind}_l0"] = tensor
        elif part == "final_conv":
            made[f"final.{kind}"] = tensor.flatten(1) if kind == "weight" else tensor
        elif part != "stft_conv":
            made[name] = tensor[:, :, None] if kind == "weight" else tensor
    return made


assert CHUNK + CONTEXT == 576
