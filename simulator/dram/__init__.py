"""DRAM: timing presets as data, a command-level model of one channel, and what streams cost on it."""

from simulator.dram.controller import Served, serve
from simulator.dram.mapping import locate
from simulator.dram.streams import Streaming, stream_efficiency, streaming
from simulator.dram.timing import PRESETS, DramTiming, timing_of

__all__ = [
    "PRESETS",
    "DramTiming",
    "Served",
    "Streaming",
    "locate",
    "serve",
    "stream_efficiency",
    "streaming",
    "timing_of",
]
