"""Editing by words with untrained networks: exactness, provenance and refusals need no training."""

import pytest
import torch

from minidiff import cycle
from minidiff.attention_control import Control, LockStep, align, copy_source
from minidiff.candidates import Search
from minidiff.candidates import scores as scores_of
from minidiff.denoiser import Denoiser, Prediction
from minidiff.disagreement import blend, disagreement
from minidiff.edit import align_captions, edit
from minidiff.generators import Identity, LatentDiffusion
from minidiff.nets.blocks import CrossAttention, SelfAttention, watching
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.schedule import linear

SHAPE = (2, 4, 6)


class Words:
    """A text encoder with a fixed vector for each word; at most five words."""

    names = ["", "a", "cat", "dog", "red", "hat", "with"]

    def tokenizer(self, captions):
        rows = [[self.names.index(word) for word in caption.split()] for caption in captions]
        return torch.tensor([row + [0] * (5 - len(row)) for row in rows])

    def text_tokens(self, captions):
        ids = self.tokenizer(captions)
        table = torch.randn(len(self.names), 6, generator=torch.Generator().manual_seed(1))
        mask = ids > 0
        mask[:, 0] |= ~mask.any(1)
        return table[ids], mask


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = UNet(UNetConfig(in_channels=2, channels=(32, 32), attention=(True, True), time=16, context=6))
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    denoiser = Denoiser(net.double().eval().requires_grad_(False), linear())
    words = Words()
    return LatentDiffusion(Identity(None), denoiser, SHAPE, steps=8, eta=0.5, text=lambda: words)


def images(count=3):
    return torch.randn(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("trajectory", ["posterior", "independent"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_equal_captions_and_scales_give_the_picture_back(model, scale, trajectory):
    settings = dict(strength=0.8, scale=scale, source_scale=scale, trajectory=trajectory)
    same = edit(model, images(), "a cat", "a cat", **settings)
    torch.testing.assert_close(same, images(), rtol=0, atol=1e-10)
    other = edit(model, images(), "a cat", "a dog", **settings)
    assert (other - images()).abs().max() > 1e-3


def test_another_scale_on_the_way_out_is_not_an_identity(model):
    assert (edit(model, images(), "a cat", "a cat", scale=2.0) - images()).abs().max() > 1e-3


@pytest.mark.parametrize("more", [{}, {"control": Control()}, {"local": 0.5}])
def test_an_item_does_not_depend_on_the_others(model, more):
    source, target = ["a cat", "a dog", "a red cat"], ["a dog", "a cat", "a red dog"]
    together = edit(model, images(), source, target, seeds=[7, 8, 9], **more)
    in_parts = edit(model, images(), source, target, seeds=[7, 8, 9], **more, batch=2)
    alone = edit(model, images()[1:2], source[1], target[1], seeds=[8], **more)
    torch.testing.assert_close(together, in_parts, rtol=0, atol=1e-10)
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-10)


def test_control_that_does_nothing_is_the_plain_edit(model):
    plain = edit(model, images(), "a cat", "a red dog", scale=2.0)
    never = edit(model, images(), "a cat", "a red dog", scale=2.0, control=Control(cross_part=0, self_part=0))
    always = edit(model, images(), "a cat", "a red dog", scale=2.0, control=Control(cross_part=1, self_part=1))
    torch.testing.assert_close(never, plain, rtol=0, atol=1e-10)
    assert (always - plain).abs().max() > 1e-3
    same = edit(model, images(), "a cat", "a cat", scale=2.0, source_scale=2.0, control=Control(self_part=1))
    torch.testing.assert_close(same, images(), rtol=0, atol=1e-10)


def test_a_local_edit_leaves_the_rest_to_the_last_bit(model):
    settings = {"scale": 2.0, "strength": 0.9}
    told = (model.given(caption).denoiser for caption in ("a cat", "a red dog"))
    apart = disagreement(*told, images(), torch.arange(3))
    assert apart.shape == (3, 1, 4, 6) and apart.amax((1, 2, 3)).allclose(torch.ones(3, dtype=torch.float64))
    local = edit(model, images(), "a cat", "a red dog", local=0.6, seeds=[0, 1, 2], **settings)
    outside = (apart <= 0.6).expand_as(local)
    assert torch.equal(local[outside], images()[outside]) and 0.1 < outside.double().mean() < 0.9
    assert (local - images())[~outside].abs().min() > 0
    everywhere = edit(model, images(), "a cat", "a red dog", local=1e-9, seeds=[0, 1, 2], **settings)
    plain = edit(model, images(), "a cat", "a red dog", seeds=[0, 1, 2], **settings)
    torch.testing.assert_close(everywhere, plain, rtol=0, atol=1e-10)
    nothing = edit(model, images(), "a cat", "a cat", local=0.5, **settings)
    assert torch.equal(nothing, images())


def test_captions_disagree_where_their_pictures_differ():
    """Two denoisers that are sure of one picture each: the distance of the pictures, half of it spread to the neighbours."""

    class Sure(torch.nn.Module):
        def __init__(self, picture):
            super().__init__()
            self.picture, self.schedule = picture, linear()

        def forward(self, x_t, t):
            return Prediction(self.picture.expand_as(x_t), x_t)

    here, there = torch.zeros(1, 2, 5, 5), torch.zeros(1, 2, 5, 5)
    there[:, :, 2, 2], there[:, :, 0, 0] = 1.0, 0.2
    apart = disagreement(Sure(here), Sure(there), torch.zeros(1, 2, 5, 5), torch.tensor([3]))
    center = 0.5 + 0.5 / 9  # itself, and its share of the mean of nine
    assert apart[0, 0, 2, 2] == 1 and apart[0, 0, 2, 3] == pytest.approx(0.5 / 9 / center)
    assert apart[0, 0, 0, 0] == pytest.approx(0.2 * (0.5 + 0.5 * 4 / 9) / center) and apart[0, 0, 4, 4] == 0


def test_a_blend_is_soft_between_coarse_places():
    old, new = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    mask = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    mixed = blend(old, new, mask)
    assert (mixed[..., :2] == 1).all() and (mixed[..., 6:] == 0).all() and (mixed.diff(dim=3) <= 0).all()


def test_other_samplers_edit_as_well(model):
    sde = model.replace(sampler="dpm++2m_sde", spacing="karras")
    for settings in ({}, {"control": Control(self_part=1)}):
        same = edit(sde, images(), "a cat", "a cat", scale=2.0, source_scale=2.0, **settings)
        torch.testing.assert_close(same, images(), rtol=0, atol=1e-10)
        assert (edit(sde, images(), "a cat", "a red dog", scale=2.0, **settings) - images()).abs().max() > 1e-3


def test_under_full_control_the_target_looks_where_the_source_looks(model):
    before, after = model.given("a cat with"), model.given("a red cat")
    control = Control("refine", cross_part=0.5, self_part=0.25)
    places = align_captions(model, "a cat with", "a red cat", control)
    assert places.tolist() == [[0, -1, 1, -1, -1]]
    both, seen = LockStep(before.denoiser, after.denoiser, places, control, 999), {}
    x = images(1).repeat(2, 1, 1, 1)

    def look(t):
        """The cross-attention of the first layer after the exchange, and whether self-attention was copied."""
        layer = both.target.denoiser.net.down[0].cross
        with both.control_at(t):
            watch, selves = layer.watch, both.target.denoiser.net.down[0].attention.watch
            probabilities = torch.rand(2, 1, 24, 5, dtype=torch.float64)
            seen["raw"], seen["after"] = probabilities, None if watch is None else watch(probabilities)
            return selves is not None

    assert look(999) is True
    source, target = seen["raw"].chunk(2)
    ours = seen["after"].chunk(2)[1]
    assert torch.equal(seen["after"].chunk(2)[0], source)
    assert torch.equal(ours[..., 0], source[..., 0]) and torch.equal(ours[..., 2], source[..., 1])
    assert torch.equal(ours[..., [1, 3, 4]], target[..., [1, 3, 4]])
    assert look(700) is False and seen["after"] is not None
    assert look(400) is False and seen["after"] is None
    both(x, 999)
    assert both.target.denoiser.net.down[0].cross.watch is None


def test_watching_sees_probabilities_and_changes_nothing_by_looking(model):
    net, x, t = model.denoiser.net, images(), torch.tensor([3, 4, 5])
    tokens, mask = (
        part.to(torch.float64) if part.is_floating_point() else part for part in Words().text_tokens(["a cat"] * 3)
    )
    plain, seen = net(x, t, tokens, mask), []

    def look(probabilities):
        seen.append(probabilities)
        return probabilities

    for kind in (CrossAttention, SelfAttention):
        with watching(net, kind, look):
            torch.testing.assert_close(net(x, t, tokens, mask), plain, rtol=0, atol=1e-12)
    assert len(seen) == 8
    for probabilities in seen:
        torch.testing.assert_close(probabilities.sum(-1), torch.ones_like(probabilities.sum(-1)))
    assert (seen[0][..., 2:] == 0).all()
    halves = torch.rand(4, 1, 3, 3)
    assert torch.equal(copy_source(halves), torch.cat([halves[:2], halves[:2]]))


def test_tokens_are_aligned_by_place_or_by_what_both_say():
    assert align([1, 2, 3], [1, 5, 3], "replace") == [0, 1, 2]
    assert align([1, 2, 3], [1, 5, 3], "refine") == [0, -1, 2]
    assert align([1, 2, 3], [1, 2, 7, 8, 3], "refine") == [0, 1, -1, -1, 2]
    with pytest.raises(ValueError, match="kind: 'replace' needs captions of equal length, got 3 and 2 tokens"):
        align([1, 2, 3], [1, 2], "replace")


def test_a_search_says_its_cost_first_and_where_each_candidate_comes_from(model, monkeypatch):
    import minidiff.evaluation.clip_scores as scores

    asked = []

    def brightness(clip, before, after, source, target):
        asked.append((source, target))
        return after.flatten(1).mean(1)

    monkeypatch.setattr(scores, "directional_score", brightness)
    search = Search(model, clip=None, strengths=(0.5, 1.0), scales=(1.0, 2.0), seeds=(3, 4))
    assert (
        search.calls == 2 * (2 * 4 + 3 * 4 + 2 * 8 + 3 * 8)
        and str(search) == "8 candidates a picture, 120 network calls"
    )
    calls = []
    handle = model.denoiser.net.register_forward_hook(lambda net, inputs, out: calls.append(len(inputs[0])))
    found = search.run(images(1)[0].clamp(-1, 1), "a cat", "a dog")
    handle.remove()
    assert sum(calls) == search.calls and asked[0] == (["a cat"], ["a dog"])
    assert len(found) == 8 and [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    mean = sum(c.score for c in found) / 8
    assert scores_of(found) == pytest.approx({"selected": found[0].score, "unselected": mean})
    for c in found[::3]:
        again = edit(model, images(1).clamp(-1, 1), "a cat", "a dog", strength=c.strength, scale=c.scale, seeds=c.seed)
        torch.testing.assert_close(again[0], c.image, rtol=0, atol=1e-10)
    pair = search.run_all(images(2).clamp(-1, 1), ["a cat", "a dog"], ["a dog", "a red cat"])
    assert [c.score for c in pair[0]] == pytest.approx([c.score for c in found])
    assert [c.seed for c in pair[0]] == [c.seed for c in found]
    alone = search.run(images(2)[1].clamp(-1, 1), "a dog", "a red cat")
    assert [c.score for c in pair[1]] == pytest.approx([c.score for c in alone])


@pytest.mark.parametrize(
    "settings",
    [
        dict(method="sdedit"),
        dict(method="ddib", eta=0.0, source_scale=2.0),
        dict(control=Control(), steps=5),
        dict(control=Control(), source_scale=2.0),
        dict(local=0.5),
        dict(interval=(0.0, 1.0), negative="a hat"),
    ],
)
def test_the_cost_of_a_search_is_right_for_every_method(model, monkeypatch, settings):
    import minidiff.evaluation.clip_scores as scores

    monkeypatch.setattr(scores, "directional_score", lambda clip, before, after, *captions: after.flatten(1).mean(1))
    search, calls = Search(model, None, (0.5, 1.0), (1.0, 2.0), seeds=(3,), settings=settings), []
    model.denoiser.net.register_forward_hook(lambda net, inputs, out: calls.append(len(inputs[0])))
    search.run(images(1)[0], "a cat", "a dog")
    assert sum(calls) == search.calls


def test_a_search_refuses_captions_before_any_work(model, tiny_load, monkeypatch):
    monkeypatch.setattr("minidiff.candidates.edit", lambda *arguments, **settings: pytest.fail("worked"))
    search = Search(model, tiny_load("critters-clip"))
    picture = torch.zeros(3, 32, 32)
    with pytest.raises(ValueError, match="captions: the edited one is as before"):
        search.run(picture, "a cat", "A cat.")
    with pytest.raises(ValueError, match="no word 'catt'"):
        search.run(picture, "a catt", "a cat")


@pytest.mark.parametrize("more", [{}, {"control": Control()}])
def test_negative_and_interval_have_a_say_on_both_ways(model, more):
    """They are those of `given`, they change a guided edit, and the identity still holds."""
    how = {"negative": "a red hat", "interval": (0.2, 0.7)}
    plain = edit(model, images(), "a cat", "a dog", scale=3.0, **more)
    for name, value in how.items():
        assert (edit(model, images(), "a cat", "a dog", scale=3.0, **{name: value}, **more) - plain).abs().max() > 1e-3
    same = edit(model, images(), "a cat", "a cat", scale=3.0, source_scale=3.0, **how, **more)
    torch.testing.assert_close(same, images(), rtol=0, atol=1e-10)
    if not more:
        sides = (model.given(caption, scale=3.0, **how) for caption in ("a cat", "a dog"))
        ours = edit(model, images(), "a cat", "a dog", scale=3.0, source_scale=3.0, strength=1.0, **how)
        torch.testing.assert_close(ours, cycle.translate(*sides, images()), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="interval: expected"):
        edit(model, images(), "a cat", "a dog", interval=(0.7, 0.2), **more)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(control=Control(), method="sdedit"), "control: only method 'cyclediffusion'"),
        (dict(local=0.5, method="ddib"), "local: only method 'cyclediffusion'"),
        (dict(local=1.0), r"local: expected a part of the largest disagreement in \(0, 1\), got 1.0"),
        (dict(control=Control("replace"), target="a red dog"), "kind: 'replace' needs captions of equal length"),
        (dict(scale=float("nan")), "scale: expected a finite number"),
        (dict(strength=0.0), "strength: expected a number in"),
        (dict(target=["a cat", "a dog"]), "condition: expected one for all, or one for each of 3 items, got 2"),
        (dict(eta=0.0), "eta: cyclediffusion needs eta > 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(model, settings, message):
    calls = []
    model.denoiser.net.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(ValueError, match=message):
        edit(model, images(), "a cat", **({"target": "a dog"} | settings))
    assert not calls


@pytest.mark.parametrize(
    "wrong", [dict(kind="swap"), dict(cross_part=1.1), dict(self_part=-0.1), dict(cross_part=float("nan"))]
)
def test_a_control_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="kind: expected one of replace, refine|part: expected a part of the steps"):
        Control(**wrong)
