"""The GPU clock's bookkeeping, with CUDA's objects replaced: what is recorded around what, how often, and what happens
without a graph."""

import pytest
import torch

from measurement import timing


class Stage:
    """Time passes only where a call lets it: `call` takes 7 us, overwriting the cache 100 us."""

    def __init__(self):
        self.now_us = 0.0
        self.calls = 0

    def call(self):
        self.calls += 1
        self.now_us += 7.0

    def zero_(self):
        self.now_us += 100.0


@pytest.fixture
def stage(monkeypatch):
    stage = Stage()

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at_us = stage.now_us

        def elapsed_time(self, other):
            return (other.at_us - self.at_us) / 1e3

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(timing.torch, "empty", lambda *shape, dtype, device: stage)
    return stage


def test_cold_times_the_call_alone(stage):
    samples = timing.CudaClock(1 << 20).cold(stage.call, 50)
    assert samples.times_us == pytest.approx([7.0] * 50)
    assert stage.calls == 53
    assert stage.now_us == pytest.approx(53 * 107)


def test_warm_divides_a_graph_by_its_repeats(stage, monkeypatch):
    def graph_of(call, repeats):
        return lambda: [call() for _ in range(repeats)]

    monkeypatch.setattr(timing, "captured", graph_of)
    samples = timing.CudaClock(1 << 20).warm(stage.call, 50)
    assert samples.times_us == pytest.approx([7.0] * 50)
    assert samples.how == "graph of 58"  # 400 us / 7 us, rounded up


def test_a_long_call_is_repeated_once(stage, monkeypatch):
    monkeypatch.setattr(timing, "captured", lambda call, repeats: lambda: [call() for _ in range(repeats)])

    def long():
        stage.now_us += 5000.0

    samples = timing.CudaClock(1 << 20).warm(long, 50)
    assert samples.how == "graph of 1"
    assert samples.median_us == pytest.approx(5000)


def test_what_cannot_be_captured_is_looped_and_says_so(stage, monkeypatch):
    def refuses(call, repeats):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(timing, "captured", refuses)
    samples = timing.CudaClock(1 << 20).warm(stage.call, 50)
    assert samples.how == "loop of 58, launches included"
    assert samples.times_us == pytest.approx([7.0] * 50)


def test_capture_warms_up_outside_the_graph(monkeypatch):
    order = []

    class Stream:
        def wait_stream(self, other):
            order.append("wait")

    class Context:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            order.append(self.name)

        def __exit__(self, *_):
            order.append(f"/{self.name}")

    class Graph:
        def replay(self):
            order.append("replay")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda side: Context("side"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: Context("graph"))
    timing.captured(lambda: order.append("call"), 2)()
    assert order == [
        "wait",
        "side",
        "call",
        "call",
        "call",
        "/side",
        "wait",
        "synchronize",
        "graph",
        "call",
        "call",
        "/graph",
        "replay",
    ]


def test_the_cache_is_overwritten_four_times_over(monkeypatch):
    asked = []
    monkeypatch.setattr(timing.torch, "empty", lambda *shape, dtype, device: asked.append((shape[0], dtype, device)))
    timing.CudaClock(50 << 20)
    timing.CudaClock(120 << 20)
    assert asked == [((1 << 28) // 4, torch.int32, "cuda"), (120 << 20, torch.int32, "cuda")]
