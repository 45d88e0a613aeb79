import math

import pytest
import torch

from minidiff.nets.blocks import ResBlock, SelfAttention, norm, time_embedding


@pytest.mark.parametrize("block", [ResBlock(16, 16), ResBlock(16, 16, time=8), SelfAttention(32)])
def test_a_new_block_is_the_identity(block):
    x = torch.randn(2, 32 if isinstance(block, SelfAttention) else 16, 6, 4)
    out = block(x, torch.randn(2, 8)) if getattr(block, "time", None) else block(x)
    assert torch.equal(out, x)


def test_attention_is_the_softmax_of_scaled_products():
    torch.manual_seed(0)
    attention = SelfAttention(16, head=8).double()
    torch.nn.init.normal_(attention.out.weight)
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    q, k, v = attention.qkv(attention.norm(x)).flatten(2).reshape(2, 3, 2, 8, 15).unbind(1)  # (B, heads, head, places)
    weights = (q.transpose(2, 3) @ k / math.sqrt(8)).softmax(-1)
    expected = x + attention.out((v @ weights.transpose(2, 3)).reshape(2, 16, 3, 5))
    assert torch.allclose(attention(x), expected, atol=1e-12)


def test_attention_needs_whole_heads():
    with pytest.raises(ValueError, match="multiple of the head width 32, got 48"):
        SelfAttention(48)


def test_time_embedding_by_hand():
    embedding = time_embedding(torch.tensor([0, 3]), 4)
    assert torch.allclose(embedding[0], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert torch.allclose(embedding[1], torch.tensor([math.cos(3), math.cos(0.03), math.sin(3), math.sin(0.03)]))


def test_norm_takes_as_many_groups_as_divide():
    assert [norm(channels).num_groups for channels in (24, 20, 7)] == [8, 4, 1]
