"""The ledger by hand, and against the diary of PyTorch's own allocator."""

from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

from minidiff.ledger import Ledger
from minidiff.nets.unet import UNet, UNetConfig


def test_births_and_deaths_by_hand():
    x = torch.ones(100)  # made outside: 400 bytes that are read, and not counted as alive
    with Ledger() as ledger:
        y = x + 1
        view = y.view(10, 10)
        z = view * 2
        del y, view, z
        x.exp()
    assert ledger.peak == 800 and not ledger.alive
    assert ledger.moved == 3 * (400 + 400)


def test_the_peak_of_a_training_step_is_that_of_the_allocator():
    config, shape = UNetConfig(in_channels=4, channels=(16, 32), attention=(False, True), time=16), (2, 4, 16, 16)

    def learn(network, device):
        network(torch.zeros(shape, device=device), torch.zeros(2, device=device)).sum().backward()

    network = UNet(config)
    with torch.device("meta"):
        shapes = UNet(config)
    with Ledger() as ledger:
        learn(shapes, "meta")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as diary:
        learn(network, "cpu")
    events = sorted(diary.events(), key=lambda event: event.time_range.end)
    held = max(accumulate(event.self_cpu_memory_usage for event in events))
    assert abs(ledger.peak / held - 1) < 0.1 and ledger.moved > 2 * ledger.peak
