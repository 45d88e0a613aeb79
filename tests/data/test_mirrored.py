import pytest
import torch

from minidiff.data.critters import Critters
from minidiff.data.mirrored import Mirrored
from minidiff.data.pictures import Pictures


def test_each_picture_and_each_in_the_mirror():
    plain = Critters("cat", length=3, size=16)
    both = Mirrored(plain)
    assert isinstance(both, Pictures) and both.shape == (3, 16, 16) and len(both) == 6
    assert torch.equal(both[:3], plain[:])
    assert torch.equal(both[[3, 1, -1]], torch.stack([plain[0].flip(2), plain[1], plain[2].flip(2)]))
    assert torch.equal(both[4], plain[1].flip(2)) and not torch.equal(both[4], plain[1])
    with pytest.raises(IndexError, match="there are 6 pictures"):
        both[6]
