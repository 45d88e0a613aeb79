"""Tokens and pictures: what is given arrives where it should, what is not given has no say, and nonsense is refused."""

import pytest
import torch

from minidiff.conditioning import MAP_CHANNELS, MAPS, Condition, condition, join, stack_maps
from minidiff.nets.unet import UNet, UNetConfig

CONFIG = UNetConfig(
    in_channels=2, channels=(32, 64), attention=(True, True), time=16, context=6, classes=3, maps=MAP_CHANNELS,
    map_features=5, map_factor=4,
)  # fmt: skip


class Letters:
    """A text encoder of fixed vectors: one token a letter, four at most."""

    def text_tokens(self, captions):
        table = torch.randn(128, 6, generator=torch.Generator().manual_seed(1))
        ids = torch.tensor([[ord(c) for c in caption.ljust(4)[:4]] for caption in captions])
        mask = torch.tensor([[True] + [c != " " for c in caption.ljust(4)[1:4]] for caption in captions])
        return table[ids], mask


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = UNet(CONFIG)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return net.eval().requires_grad_(False)


def picture(count=2, size=16, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_stack_holds_each_picture_in_its_own_channels():
    layout = torch.arange(2 * 16 * 16).reshape(2, 16, 16) % MAPS["layout"]
    low, blurred, full = picture(size=4), picture(seed=1), picture(seed=2)
    mask = (torch.rand(2, 1, 16, 16) > 0.5).float()
    stack = stack_maps(4, layout=layout, low_res=low, blurred=blurred, known=(full, mask))
    parts = dict(zip(MAPS, stack.split(list(MAPS.values()), dim=1), strict=True))
    assert torch.equal(parts["layout"].argmax(1), layout) and (parts["layout"].sum(1) == 1).all()
    assert torch.equal(parts["low_res"][:, :3, ::4, ::4], low) and (parts["low_res"][:, 3] == 1).all()
    assert torch.equal(parts["blurred"][:, :3], blurred)
    assert torch.equal(parts["known"][:, :3], full * mask) and torch.equal(parts["known"][:, 3:], mask)
    alone = stack_maps(4, blurred=blurred)
    assert torch.equal(alone[:, -8:-4, :, :], parts["blurred"]) and alone.abs().sum() == parts["blurred"].abs().sum()


@torch.no_grad()
def test_everything_that_is_given_has_a_say_and_nothing_else(net):
    x, t = torch.randn(2, 2, 4, 4), torch.tensor([3, 700])
    given = {
        "text": dict(text=["cat", "dog"]),
        "label": dict(label=[0, 2]),
        "low_res": dict(low_res=picture(size=4)),
        "layout and text": dict(text="dog", layout=torch.ones(2, 16, 16, dtype=torch.long)),
    }
    nothing = net(x, t, **condition(net, Letters).repeat(2).parts())
    answers = [net(x, t, **condition(net, Letters, **what).repeat(2).parts()) for what in given.values()]
    for k, answer in enumerate(answers):
        assert all(not torch.allclose(answer, other) for other in [nothing, *answers[:k]])
    absent = Condition(
        *vars(condition(net, Letters, text=["cat", "dog"])).values(),
    )
    zeros = Condition(absent.tokens, absent.mask, torch.zeros(2, 5, 4, 4))
    torch.testing.assert_close(net(x, t, **absent.parts()), net(x, t, **zeros.parts()))


@torch.no_grad()
def test_the_order_of_tokens_does_not_matter_and_padding_has_no_say(net):
    x, t = torch.randn(1, 2, 4, 4), torch.tensor([3])
    tokens, mask = torch.randn(1, 5, 6), torch.tensor([[True, True, True, False, False]])
    answer = net(x, t, tokens, mask)
    order = torch.tensor([2, 4, 0, 3, 1])
    torch.testing.assert_close(net(x, t, tokens[:, order], mask[:, order]), answer, rtol=0, atol=1e-5)
    padded = tokens.clone()
    padded[:, 3:] = 100.0
    assert torch.equal(net(x, t, padded, mask), answer)
    assert not torch.allclose(net(x, t, padded, torch.ones_like(mask)), answer)


def test_masked_tokens_get_no_gradient(net):
    tokens = torch.randn(2, 5, 6, requires_grad=True)
    mask = torch.tensor([[True, True, True, False, False], [True, False, False, False, False]])
    net(torch.randn(2, 2, 4, 4), torch.tensor([3, 9]), tokens, mask).square().sum().backward()
    assert (tokens.grad[~mask] == 0).all() and (tokens.grad[mask].abs().sum(1) > 0).all()


@torch.no_grad()
def test_two_conditions_in_one_batch_answer_as_they_do_apart(net):
    x, t = torch.randn(2, 2, 4, 4), torch.tensor([3, 700])
    long = condition(net, Letters, text="bird", label=1, blurred=picture(1)).repeat(2)
    short = condition(net, Letters, label=2).repeat(2)
    together = net(x.repeat(2, 1, 1, 1), t.repeat(2), **join(long, short).parts())
    torch.testing.assert_close(together[:2], net(x, t, **long.parts()), rtol=0, atol=1e-5)
    torch.testing.assert_close(together[2:], net(x, t, **short.parts()), rtol=0, atol=1e-5)


def test_rows_and_repeats():
    one, three = Condition(torch.ones(1, 2, 6)), Condition(torch.arange(3.0).view(3, 1, 1))
    assert len(one.repeat(4)) == 4 and one.rows(slice(2, 4)) is one
    assert three.rows(slice(1, 3)).tokens.flatten().tolist() == [1, 2]
    with pytest.raises(ValueError, match="condition: expected one for all, or one for each of 4 items, got 3"):
        three.repeat(4)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (dict(label=3), "label: expected whole numbers from 0 to 2"),
        (dict(text=["a", "b", "c"], label=[0, 1]), r"condition: expected one of each for every item, got \[2, 3\]"),
        (dict(layout=torch.zeros(2, 16, 16)), "layout: expected whole numbers"),
        (dict(layout=torch.full((2, 16, 16), 40)), "layout: expected part numbers 0 to"),
        (dict(layout=torch.zeros(2, 18, 18, dtype=torch.long)), "maps: expected one number and size of pictures"),
        (dict(layout=torch.zeros(2, 8, 8, dtype=torch.long), blurred=picture()), "maps: expected one number and size"),
        (dict(low_res=picture(size=5), blurred=picture()), "low_res: expected a side that divides 16, got 5"),
        (dict(blurred=3 * picture()), r"blurred: expected finite values in \[-1, 1\]"),
        (dict(blurred=picture() * torch.nan), r"blurred: expected finite values in \[-1, 1\]"),
        (dict(known=(picture(), torch.full((2, 1, 16, 16), 0.5))), r"mask: expected only 0 \(to be painted\) and 1"),
        (dict(known=(picture(), torch.ones(2, 16, 16))), r"mask: expected \(2, 1, 16, 16\), got \(2, 16, 16\)"),
    ],
)
def test_what_makes_no_sense_is_refused(net, what, message):
    with pytest.raises(ValueError, match=message):
        condition(net, Letters, **what)


def test_a_network_is_not_told_what_it_never_learned():
    plain = UNet(UNetConfig(in_channels=2, channels=(32,), attention=(True,)))
    with pytest.raises(ValueError, match="text: this model was not trained with captions"):
        condition(plain, None, text="a cat")
    with pytest.raises(ValueError, match="text: this model was not trained with captions"):
        condition(plain, Letters, text="a cat")  # somebody else's encoder does not help
    with pytest.raises(ValueError, match="label: this model was not trained with class labels"):
        condition(plain, None, label=1)
    with pytest.raises(ValueError, match="blurred: this model takes no pictures as a condition"):
        condition(plain, None, blurred=picture())
    with pytest.raises(ValueError, match="tokens: this network takes no tokens"):
        plain(torch.zeros(1, 2, 4, 4), torch.zeros(1), torch.zeros(1, 1, 6))


def test_tokens_and_features_that_do_not_fit_are_refused(net):
    x, t = torch.zeros(2, 2, 4, 4), torch.zeros(2)
    with pytest.raises(ValueError, match=r"tokens: this network takes tokens \(B, L, 6\), got none: tell it"):
        net(x, t)
    with pytest.raises(ValueError, match=r"tokens: expected \(2, L, 6\), got \(1, 4, 6\)"):
        net(x, t, torch.zeros(1, 4, 6))
    with pytest.raises(ValueError, match=r"features: expected \(2, 5, 4, 4\), got \(2, 5, 8, 8\)"):
        net(x, t, torch.zeros(2, 1, 6), features=torch.zeros(2, 5, 8, 8))
    with pytest.raises(ValueError, match="context: 3 classes need tokens of some width"):
        UNetConfig(classes=3)
