import torch

from minidiff.eight_bits import pack, unpack


def test_a_hand_computed_matrix():
    matrix = torch.tensor([[127.0, -63.4, 0.0], [0.0, 0.0, 0.0], [-2.54, 0.01, 0.03]])
    packed = pack({"w": matrix})
    assert packed["w"].tolist() == [[127, -63, 0], [0, 0, 0], [-127, 0, 2]] and packed["w"].dtype == torch.int8
    assert torch.allclose(packed["w.scale"], torch.tensor([1.0, 0.0, 0.02]))
    assert torch.allclose(unpack(packed)["w"], torch.tensor([[127.0, -63, 0], [0, 0, 0], [-2.54, 0, 0.04]]))


def test_no_weight_moves_by_more_than_half_a_step_of_its_row():
    kernel = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 6).view(
        6, 1, 1, 1
    )
    packed = pack({"conv.weight": kernel.half()})
    moved = (unpack(packed)["conv.weight"] - kernel.half()).abs().amax((1, 2, 3))
    assert (moved <= 0.5001 * packed["conv.weight.scale"]).all() and moved.min() > 0
    assert packed["conv.weight"].nbytes * 2 == kernel.half().nbytes


def test_vectors_stay_and_a_parameter_may_be_called_scale():
    weights = {"norm.scale": torch.tensor([0.3, 0.7]), "norm": torch.ones(2).half(), "count": torch.tensor([[3]])}
    assert pack(weights) == weights
    back = unpack(pack(weights | {"w": torch.eye(2)}))
    assert back.keys() == {*weights, "w"} and all(value.dtype == torch.float32 for value in back.values())
    assert torch.equal(back["w"], torch.eye(2)) and torch.equal(back["norm.scale"], weights["norm.scale"])
