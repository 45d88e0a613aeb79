import platform
from pathlib import Path

import pytest
import torch

from minidiff.fast.memory import kept_memory

MEBIBYTE = 2**20


def resident() -> float:
    """MiB of memory that the process has."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library is told")
def test_what_a_tensor_gives_back_stays_until_the_end():
    with kept_memory():
        tensor = torch.ones(200 * MEBIBYTE // 4)
        held = resident()
        del tensor
        assert resident() > held - 50
    assert resident() < held - 150


def test_elsewhere_it_does_nothing(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("minidiff.fast.memory.settle", None)
    with kept_memory():
        torch.ones(3)
