"""The three things a network may predict are one: each tells x0 and eps, in the dtype of the trajectory."""

import pytest
import torch
from torch import nn

from minidiff.denoiser import PREDICTS, Denoiser, to_prediction, training_target
from minidiff.schedule import linear


class Answer(nn.Module):
    """A network that knows the answer; it remembers what it was asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, x, t, **cond):
        self.asked = x.dtype, t, cond
        return self.answer


def pair(dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(3, 2, 4, 4, dtype=dtype), torch.randn(3, 2, 4, 4, dtype=dtype)


@pytest.mark.parametrize("predicts", PREDICTS)
@pytest.mark.parametrize("t", [0, 0.5, 500, 999, torch.tensor([0, 500, 999])])
def test_the_target_gives_back_x0_and_eps(predicts, t):
    x0, eps = pair()
    levels = linear().levels(t, x0)
    x_t = linear().add_noise(x0, eps, t)
    seen = to_prediction(predicts, x_t, training_target(predicts, x0, eps, *levels), *levels)
    torch.testing.assert_close(seen.x0, x0, rtol=0, atol=1e-12)
    torch.testing.assert_close(seen.eps, eps, rtol=0, atol=1e-12)


@pytest.mark.parametrize("predicts", PREDICTS)
def test_any_output_means_one_noise_and_one_picture(predicts):
    x_t, output = pair()
    levels = linear().levels(300, x_t)
    seen = to_prediction(predicts, x_t, output, *levels)
    torch.testing.assert_close(levels[0] * seen.x0 + levels[1] * seen.eps, x_t, rtol=0, atol=1e-12)


@pytest.mark.parametrize("predicts", PREDICTS)
def test_loss_is_the_mean_squared_error_of_each_item(predicts):
    (x0, eps), t = pair(), torch.tensor([3, 400, 999])
    target = training_target(predicts, x0, eps, *linear().levels(t, x0))
    assert Denoiser(Answer(target), linear(), predicts).loss(x0, eps, t).tolist() == [0, 0, 0]
    off = torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1).double()
    torch.testing.assert_close(
        Denoiser(Answer(target + off), linear(), predicts).loss(x0, eps, t), torch.tensor([0.0, 1.0, 4.0]).double()
    )


@pytest.mark.parametrize("predicts", PREDICTS)
def test_loss_and_prediction_ask_the_same_question(predicts):
    (x0, eps), t = pair(), torch.tensor([3, 400, 999])
    target = training_target(predicts, x0, eps, *linear().levels(t, x0))
    denoiser = Denoiser(Answer(target), linear(), predicts)
    seen = denoiser(linear().add_noise(x0, eps, t), t)
    torch.testing.assert_close(seen.x0, x0, rtol=0, atol=1e-12)


def test_the_network_keeps_its_dtype_and_the_trajectory_its_own():
    x_t, output = pair()
    net = Answer(output.float())
    seen = Denoiser(net, linear(), "eps")(x_t, 7, word="cat")
    assert net.asked[0] == torch.float32 and net.asked[2] == {"word": "cat"}
    assert net.asked[1].tolist() == [7, 7, 7] and net.asked[1].dtype == torch.int64
    assert seen.x0.dtype == seen.eps.dtype == torch.float64


def test_a_network_may_be_asked_between_its_levels():
    x_t, output = pair()
    net = Answer(output)
    Denoiser(net, linear())(x_t, 7.25)
    assert net.asked[1].tolist() == [7.25] * 3


def test_bad_input():
    with pytest.raises(ValueError, match="predicts: expected one of eps, x0, v, flow, got 'score'"):
        Denoiser(nn.Identity(), linear(), "score")
