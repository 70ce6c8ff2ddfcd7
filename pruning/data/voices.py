"""Speech-like sound, made by a source and filters: pulses of a moving pitch through three moving resonances, in
syllables, some with a hiss before them; behind it noise. Nobody speaks in it, but what detectors of voices hear is
there.
"""

from typing import Any

import numpy as np

RATE_HZ = 16_000
CHUNK, CONTEXT, CHUNKS = 512, 64, 32
VOWELS_HZ = np.array(
    [[730, 1090, 2440], [270, 2290, 3010], [530, 1840, 2480], [570, 840, 2410], [300, 870, 2240], [660, 1720, 2410]]
)  # formants of American English vowels (Peterson and Barney 1952, men)
WIDTHS_HZ = np.array([80.0, 100.0, 140.0])
SNR_DB = (5.0, 25.0)


def utterances(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(chunks (count, 32, 576) float32, spoken (count, 32) bool); a chunk is spoken where more than half of it is
    inside a stretch of syllables. Half of the samples, on average, begin with a voice, half with noise alone."""
    draw = np.random.default_rng([seed, CHUNK])
    chunks = np.empty((count, CHUNKS, CHUNK + CONTEXT), np.float32)
    spoken = np.empty((count, CHUNKS), bool)
    for number in range(count):
        sound, voiced = _utterance(draw)
        padded = np.concatenate([np.zeros(CONTEXT), sound])
        for chunk in range(CHUNKS):
            chunks[number, chunk] = padded[chunk * CHUNK : chunk * CHUNK + CHUNK + CONTEXT]
        spoken[number] = voiced.reshape(CHUNKS, CHUNK).mean(axis=1) > 0.5
    return chunks, spoken


def _utterance(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(sound, where somebody speaks): a voice in one half of the time, at one of both ends, and noise all along."""
    length = CHUNK * CHUNKS
    begins = int(length * draw.uniform(0.35, 0.65))
    first = draw.random() < 0.5
    voiced = (np.arange(length) < begins) == first
    voice = np.zeros(length)
    voice[voiced] = _voice(int(voiced.sum()), draw)
    noise = _noise(length, draw)
    level = 10 ** (draw.uniform(-30, -15) / 20)
    voice *= level / np.sqrt(np.mean(voice[voiced] ** 2))
    noise *= level * 10 ** (-draw.uniform(*SNR_DB) / 20) / noise.std()
    return voice + noise, voiced


def _voice(length: int, draw: np.random.Generator) -> np.ndarray:
    parts: list[np.ndarray] = []
    pitch = draw.uniform(90, 240)
    while sum(map(len, parts)) < length:
        parts.append(_syllable(pitch * draw.uniform(0.85, 1.2), draw))
    return np.concatenate(parts)[:length]


def _syllable(pitch_hz: float, draw: np.random.Generator) -> np.ndarray:
    """A hiss, for a third of them, and a vowel that glides to another."""
    length = int(RATE_HZ * draw.uniform(0.14, 0.26))
    time = np.arange(length) / length
    pitch = pitch_hz * (1 + draw.uniform(-0.15, 0.1) * time + 0.01 * np.sin(2 * np.pi * 5 * time))
    phase = np.cumsum(pitch) / RATE_HZ
    source = np.diff(np.floor(phase), prepend=0.0) + 0.01 * draw.standard_normal(length)
    source = lfilter([1.0], [1.0, -0.95], source)  # pulses fall by 6 dB an octave
    start, end = VOWELS_HZ[draw.integers(len(VOWELS_HZ), size=2)] * draw.uniform(0.95, 1.2)
    steps = 8
    made = np.zeros(length)
    states = [np.zeros(2) for _ in WIDTHS_HZ]
    for step, piece in enumerate(np.array_split(np.arange(length), steps)):
        sound = source[piece]
        for n, hz in enumerate(start + (end - start) * step / (steps - 1)):
            radius = np.exp(-np.pi * WIDTHS_HZ[n] / RATE_HZ)
            poles = [1.0, -2 * radius * np.cos(2 * np.pi * hz / RATE_HZ), radius**2]
            sound, states[n] = lfilter([sum(poles)], poles, sound, zi=states[n])
        made[piece] = sound
    made *= np.sin(np.pi * np.clip(time * 1.05, 0, 1)) ** 0.5
    if draw.random() < 1 / 3:
        hiss = lfilter([1.0, -0.9], [1.0], draw.standard_normal(int(RATE_HZ * draw.uniform(0.04, 0.09))))
        made = np.concatenate([0.15 * made.std() * hiss, made])
    return made


def lfilter(*args: Any, **kwargs: Any) -> Any:
    """scipy's; importing it takes half a second that no other family needs."""
    from scipy.signal import lfilter as found

    return found(*args, **kwargs)


def _noise(length: int, draw: np.random.Generator) -> np.ndarray:
    """White, falling with frequency, or with the hum of a machine in it."""
    noise, kind = draw.standard_normal(length), draw.integers(3)
    if kind:
        noise = lfilter([1.0], [1.0, -0.9], noise)
    if kind == 2:
        time = np.arange(length) / RATE_HZ
        noise = noise / noise.std() + sum(np.sin(2 * np.pi * 50 * n * time) / n for n in range(1, 5))
    return noise
