"""The fast path gives the pictures of the plain one: for every sampler, told or not, guided or not, in any batch."""

import json
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import minidiff
from minidiff.conditioning import Condition
from minidiff.cycle import translate
from minidiff.denoiser import Denoiser
from minidiff.edit import edit
from minidiff.families import FAMILIES
from minidiff.fast import FORMS, can_be_recorded, copies, half, hurry, measure, quick
from minidiff.fast.denoisers import QuickDenoiser, QuickGuided
from minidiff.fast.layers import Block, Columns, pixels_first, pixels_last
from minidiff.fast.measure import Plan, Timing
from minidiff.fast.networks import QuickUNet
from minidiff.fast.record import HalfNetwork, Recorder, full, settings, told_to
from minidiff.fast.streaming import stream
from minidiff.fast.winograd import Winograd, transforms
from minidiff.generators import Identity, new_images
from minidiff.inpaint import inpaint
from minidiff.nets.blocks import SelfAttention, watching
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.pair import encode_and_decode, pair
from minidiff.reversible import reversible
from minidiff.solvers import SAMPLERS

QUICK = FORMS[1:]


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measure, "known", {})
    return tmp_path / "minidiff" / "fast.json"


@pytest.fixture
def lively_load(tiny_load):
    """Untrained models whose every layer does something: no weight is zero, as it is in a new network."""

    def load(name, **settings):
        model = tiny_load(name, **settings)
        torch.manual_seed(1)
        for part in (model.autoencoder, model.denoiser):
            for weight in part.parameters():
                fan_in = weight[0].numel() if weight.ndim > 1 else 4
                nn.init.normal_(weight, std=fan_in**-0.5)
        return model

    return load


def images(count=3, size=32):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7, 8, 16])
@pytest.mark.parametrize("kind", [Columns, Winograd])
def test_a_convolution_is_torchs(kind, side):
    torch.manual_seed(0)
    conv, x = nn.Conv2d(24, 16, 3, padding=1), torch.randn(2, 24, side, side + 1)
    ours = pixels_last(kind(conv)(pixels_first(x))).double()
    exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    assert (ours - exact).abs().max() < 1e-5 < exact.abs().max()


@pytest.mark.parametrize("side", [2, 5, 8])
def test_a_convolution_of_stride_2_is_torchs(side):
    torch.manual_seed(0)
    conv, x = nn.Conv2d(8, 16, 3, padding=1, stride=2), torch.randn(3, 8, side, side)
    torch.testing.assert_close(pixels_last(Columns(conv)(pixels_first(x))), conv(x), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="expected 3 x 3 of stride 1"):
        Winograd(conv)


@pytest.mark.parametrize("form", QUICK)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_the_same_pictures(lively_load, sampler, form):
    model = lively_load("critters-cat").replace(sampler=sampler, spacing="karras" if "2m" in sampler else "trailing")
    code = model.random_code(3)
    difference = (model.decode(code, fast=form) - model.decode(code)).abs().max()
    assert difference < 1e-4 and (quick(model, form).denoiser is not model.denoiser)


GIVEN = {
    "told": {"text": "a cat"},
    "guided": {"text": ["a cat", "a striped dog", "a wild"], "scale": 3.0},
    "negative": {"text": "a cat", "negative": ["a hat", "", "a dog wearing glasses"], "scale": 2.0},
    "scales": {"text": "a cat", "label": [0, 1, 2], "scale": torch.tensor([1.0, 0.0, 4.0])},
    "interval": {"label": 1, "scale": 3.0, "interval": (0.2, 0.7)},
}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize(("name", "form"), [("critters-text", "winograd"), ("critters-maps", "columns")])
def test_told_models_draw_the_same_pictures(lively_load, name, given, form):
    model = lively_load(name).given(**GIVEN[given])
    plain, fast = model.sample(3, seeds=5), model.sample(3, seeds=5, fast=form)
    assert (fast - plain).abs().max() < 1e-4
    assert (model.given(text="a wild").sample(3, seeds=5) - plain).abs().max() > 1e-3  # the words matter


@pytest.mark.parametrize("form", QUICK)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_model_told_pictures_draws_the_same(lively_load, scale, form):
    model = lively_load("critters-maps").given(text="a cat", low_res=images(3, 8), scale=scale)
    assert (model.sample(fast=form) - model.sample()).abs().max() < 1e-4


def test_what_the_network_refuses_stays_refused(lively_load):
    with pytest.raises(ValueError, match="tokens: this network takes tokens"):
        lively_load("critters-text").sample(2, fast="winograd")
    with pytest.raises(ValueError, match="one for each of 3 items, got 2"):
        lively_load("critters-text").given(text=["a", "cat"]).sample(3, fast="winograd")
    with pytest.raises(ValueError, match="fast: expected True, False or one of plain, columns, winograd, got 'quick'"):
        lively_load("critters-cat").sample(2, fast="quick")
    with pytest.raises(ValueError, match="batch: expected at least 1, got 0"):
        lively_load("critters-cat").sample(2, batch=0, fast=True)
    model = lively_load("critters-text").given(text=["a", "cat"])
    for way in (
        lambda: model.decode(model.random_code(3), fast="winograd"),
        lambda: model.encode(images(), fast="winograd"),
    ):
        with pytest.raises(ValueError, match="one for each of 3 items, got 2"):
            way()
    with pytest.raises(ValueError, match=r"code: expected shape \(B, 5, 4, 4, 4\), got \(2, 4, 4, 4\)"):
        model.decode(torch.zeros(2, 4, 4, 4), fast=True)
    with pytest.raises(ValueError, match="fast: quick networks have no gradient"):
        model.decode(model.random_code(2).requires_grad_(), fast=True)


@pytest.mark.parametrize("form", QUICK)
def test_pictures_do_not_depend_on_the_batch(lively_load, form):
    model = lively_load("critters-text").given(text=["a cat", "a dog", "a wild", "", "a hat"], scale=2.0)
    at_once = model.sample(5, seeds=20, fast=form)
    torch.testing.assert_close(model.sample(5, seeds=20, batch=2, fast=form), at_once, rtol=0, atol=1e-5)
    alone = model.rows(slice(3, 4)).sample(1, seeds=23, fast=form)
    torch.testing.assert_close(alone, at_once[3:4], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "form"), [("critters-cat", "winograd"), ("fashion-boot", "columns")])
def test_trained_models_draw_the_same_pictures(name, form):
    """The tolerance that the documentation states, on the zoo's weights."""
    model = minidiff.load(name).replace(steps=12, sampler="dpm++2m")
    assert (model.sample(2, fast=form) - model.sample(2)).abs().max() < 1e-3


@pytest.mark.parametrize("form", QUICK)
def test_codes_and_translations_are_the_same(lively_load, form):
    model, other = lively_load("critters-cat"), lively_load("critters-wild")
    code = model.encode(images(), seeds=3)
    assert (model.encode(images(), seeds=3, fast=form) - code).abs().max() < 1e-2  # noises are divided by their std
    back = model.decode(model.encode(images(), 3, fast=form), fast=form)
    assert (back - model.decode(code)).abs().max() < 1e-4
    for way in ({}, {"method": "sdedit", "refine": 0.5}, {"method": "ddib", "strength": 0.5}):
        plain = translate(model, other, images(), **way)
        assert (translate(model, other, images(), batch=2, fast=form, **way) - plain).abs().max() < 1e-4
    assert (translate(model, model, images()) - plain).abs().max() > 1e-3


def test_edits_and_paintings_are_the_same(lively_load):
    model, words = lively_load("critters-maps"), ("a cat", "a dog wearing a hat")
    mask = torch.zeros(3, 1, 32, 32)
    mask[..., :16] = 1
    for way in (
        lambda fast: edit(model, images(), *words, fast=fast),
        lambda fast: inpaint(model, images(), mask, text="a cat", fast=fast),
    ):
        assert (way("winograd") - way(False)).abs().max() < 1e-4


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_draws_the_same_pictures(tiny_load, kind):
    model = tiny_load(f"critters-{kind}")
    model = model.replace(steps=3) if kind == "diffae" else model
    code = model.random_code(3, seeds=2)
    plain, fast = model.decode(code), model.decode(code, fast=True)
    assert (fast - plain).abs().max() < 1e-4
    assert (model.sample(3, seeds=2, batch=2, fast="winograd") - plain).abs().max() < 1e-4
    changed = quick(model, "winograd")
    assert (changed.autoencoder is model.autoencoder) == (type(model.autoencoder) is Identity)
    assert (changed.network is model.network) == (kind != "diffae")
    with pytest.raises(ValueError, match="fast: quick networks have no gradient"):
        model.decode(code.requires_grad_(), fast=True)


@pytest.mark.parametrize("method", ["belm", "edict"])
def test_what_can_be_undone_stays_so(lively_load, method):
    model = reversible(lively_load("critters-cat"), method)
    latents = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fast = quick(model, "winograd")
    assert (fast.decode_latents(fast.encode_latents(latents)) - latents).abs().max() < 1e-5
    plain = model.sample(2)
    assert (model.sample(2, fast="winograd") - plain).abs().max() < 3e-5 * plain.abs().max()


def test_the_trajectory_keeps_its_dtype(lively_load):
    model = lively_load("critters-cat")
    code = model.random_code(2, dtype=torch.float64)
    fast = model.decode(code, fast="winograd")
    assert fast.dtype == torch.float64 and (fast - model.decode(code)).abs().max() < 1e-4
    model.denoiser.double()  # what is more exact on purpose stays so
    assert quick(model, "winograd").denoiser is model.denoiser
    assert (model.decode(code, fast=True) - model.decode(code)).abs().max() < 1e-4


def test_the_default_dtype_has_no_say(lively_load, monkeypatch):
    monkeypatch.setattr(measure, "SIZES", (1,))
    monkeypatch.setattr("minidiff.fast.winograd.transforms", transforms.__wrapped__)  # not as they were made before
    model = lively_load("critters-cat")
    plain = model.sample(2)
    torch.set_default_dtype(torch.float64)
    try:
        for form in (True, *QUICK):
            assert (model.sample(2, fast=form) - plain).abs().max() < 1e-4
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("form", QUICK)
def test_a_network_that_sees_patches(lively_load, form):
    """Pictures of 32 x 32 are as large for it as latents of 16 x 16."""
    model = lively_load("critters-cat")
    net = UNet(UNetConfig(in_channels=3, patch=2, channels=(8, 32), attention=(False, True), time=16)).eval()
    nn.init.normal_(net.last.weight)
    model = model.replace(autoencoder=Identity(), denoiser=Denoiser(net, model.denoiser.schedule), steps=2)
    assert quick(model, form).denoiser is not model.denoiser
    assert (model.sample(2, fast=form) - model.sample(2)).abs().max() < 1e-4


def test_a_network_that_never_looks_at_its_tokens():
    """Told about two rows an item it answers for both, though neither attention nor picture makes two of them."""
    torch.manual_seed(0)
    net = UNet(UNetConfig(in_channels=4, channels=(8, 16), attention=(False, False), time=16, context=8)).eval()
    nn.init.normal_(net.last.weight)
    x, told = torch.randn(3, 4, 4, 4), Condition(torch.randn(6, 2, 8))
    network = QuickUNet(net, "columns")
    with torch.no_grad():
        plain = net(x.repeat(2, 1, 1, 1), torch.full((6,), 10), told.tokens)
    torch.testing.assert_close(network(x, 10, network.tell(x, told)), plain, rtol=0, atol=1e-5)


def test_new_weights_make_new_copies(lively_load):
    model = lively_load("critters-cat")
    before = model.sample(1, fast="winograd")
    assert quick(model, "winograd").denoiser.quick is quick(model, "winograd").denoiser.quick
    with torch.no_grad():
        model.denoiser.net.last.bias.add_(1.0)
    after = model.sample(1, fast="winograd")
    assert (after - before).abs().max() > 1e-2 and (after - model.sample(1)).abs().max() < 1e-4
    model.autoencoder.scale.mul_(2.0)
    assert (model.sample(1, fast="winograd") - model.sample(1)).abs().max() < 1e-4


def test_copies_go_with_their_network(lively_load):
    import gc

    model = lively_load("critters-cat")
    net = model.denoiser.net
    model.sample(1, fast="winograd")
    assert net in copies
    kept = len(copies)
    del model, net
    gc.collect()
    assert len(copies) <= kept - 2  # the U-Net's and the autoencoder's


def test_who_watches_the_attention_sees_it(lively_load):
    model, seen = lively_load("critters-cat"), []

    def watch(attention):
        seen.append(attention.shape)
        return attention

    with watching(model.denoiser.net, SelfAttention, watch):
        model.sample(1, fast="winograd")
    assert len(seen) == 2 * model.calls


def test_networks_of_others_are_asked_as_they_are(tiny_load, lively_load):
    from minidiff.generators import LatentDiffusion
    from minidiff.ideal import IdealDenoiser
    from minidiff.schedule import linear

    autoencoder = tiny_load("critters-autoencoder")
    model = LatentDiffusion(autoencoder, IdealDenoiser(linear(), torch.zeros(4, 4, 4), 0.5), (3, 32, 32), steps=4)
    assert (model.sample(2, fast=True) - model.sample(2)).abs().max() < 1e-5
    large = lively_load("critters-cat", size=160)  # latents of 20 x 20: beyond what quick forms are for
    assert quick(large, "winograd").denoiser is large.denoiser


def test_guidance_asks_once_for_what_both_sides_share(lively_load, monkeypatch):
    """Before the first look at the tokens there is one row for each item, after it there are two."""
    rows, block = [], Block.__call__

    def watched(self, x, *others):
        rows.append(x.shape[2])
        return block(self, x, *others)

    monkeypatch.setattr(Block, "__call__", watched)
    model = lively_load("critters-text").given(text="a cat", scale=2.0)
    quick(model, "columns").denoiser(torch.zeros(3, 4, 4, 4), 10)
    assert rows == [3, 3, 6, 6, 6]  # two stages down, the middle, two up; the second stage has the first tokens


def test_measured_once_and_kept(lively_load, cache_of_its_own, monkeypatch):
    monkeypatch.setattr(measure, "SIZES", (1, 4))
    model = lively_load("critters-cat")
    assert (model.sample(5, fast=True) - model.sample(5)).abs().max() < 1e-4
    (timings,) = json.loads(cache_of_its_own.read_text()).values()
    assert {form for size, form, *_ in timings if size == 1} == set(FORMS)
    assert {size * workers for size, _, workers, *_ in timings} == {1, 4}
    assert all(0 < seconds < 10 for *_, seconds in timings)

    def never(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(measure, "measured", never)
    model.sample(2, fast=True)
    measure.known.clear()  # as in another process: the file is read
    model.sample(2, fast=True)
    measure.forget()
    assert not cache_of_its_own.exists()
    with pytest.raises(AssertionError, match="measured again"):
        model.sample(2, fast=True)


def test_a_plan_is_the_fastest_that_was_measured(monkeypatch):
    timings = [
        Timing(1, "plain", 1, 2, 0.5),
        Timing(1, "columns", 1, 1, 0.2),
        Timing(16, "plain", 1, 2, 0.3),
        Timing(16, "winograd", 1, 2, 0.1),
        Timing(16, "winograd", 2, 1, 0.05),
        Timing(64, "winograd", 1, 2, 0.15),
    ]
    monkeypatch.setattr(measure, "measured", lambda forms: timings)
    forms = dict.fromkeys(FORMS)
    assert measure.plan("a", forms, 1) == Plan("columns", 1, 1)
    assert measure.plan("a", forms, 3) == Plan("columns", 3, 1)
    assert measure.plan("a", forms, 20) == Plan("winograd", 20, 2)
    assert measure.plan("a", forms, 32) == Plan("winograd", 16, 1, workers=2)
    assert measure.plan("a", forms, 70) == Plan("winograd", 12, 1, workers=2)  # six groups of 12, not five of 16
    del timings[4]
    assert measure.plan("a", forms, 64) == Plan("winograd", 16, 2)  # fewer at once are faster


def test_side_by_side_it_is_the_same(lively_load, monkeypatch):
    """Workers change neither the pictures nor what the caller's thread is set to, and hand on what goes wrong."""
    model = lively_load("critters-text").given(
        text=[f"a {animal}" for animal in ("cat", "dog", "wild", "cat", "dog")], scale=2
    )
    alone, before = model.sample(seeds=7, fast="winograd"), torch.get_num_threads()
    monkeypatch.setattr("minidiff.fast.fastest", lambda *_: Plan("winograd", 2, 1, workers=2))
    assert (model.sample(seeds=7, fast=True) - alone).abs().max() < 1e-5
    assert torch.get_num_threads() == before and torch.is_grad_enabled()
    with measure.side_by_side(2, 1) as each:
        assert list(each(lambda _: (torch.get_num_threads(), torch.is_grad_enabled()), range(3))) == [(1, False)] * 3
        with pytest.raises(ZeroDivisionError):
            list(each(lambda x: 1 / x, [1, 0]))


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}'])
def test_a_damaged_file_is_measured_anew(content, cache_of_its_own, monkeypatch):
    monkeypatch.setattr(measure, "measured", lambda forms: [Timing(1, "plain", 1, 1, 0.1)])
    cache_of_its_own.parent.mkdir(parents=True)
    cache_of_its_own.write_text(content.replace('"a"', json.dumps(measure.key_of("a"))))
    assert measure.plan("a", {"plain": None}, 1) == Plan("plain", 1, 1)
    assert json.loads(cache_of_its_own.read_text())[measure.key_of("a")] == [[1, "plain", 1, 1, 0.1]]


def test_without_a_place_for_the_file_it_works(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(measure, "write_whole", refuse)
    monkeypatch.setattr(measure, "measured", lambda forms: [Timing(1, "plain", 1, 1, 0.1)])
    assert measure.plan("a", {"plain": None}, 1) == Plan("plain", 1, 1)


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), measure.threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_a_stream_yields_what_the_whole_set_gives(lively_load):
    model = lively_load("critters-cat")
    whole = model.sample(5, seeds=7)
    parts = list(stream(lambda seeds: model.sample(len(seeds), seeds, fast="winograd"), 7 + torch.arange(5), batch=2))
    assert [len(part) for part in parts] == [2, 2, 1] and (torch.cat(parts) - whole).abs().max() < 1e-4
    told = lively_load("critters-text").given(text=["a cat", "a dog", "a wild"])
    parts = list(stream(lambda model, seeds: model.sample(len(seeds), seeds), told, torch.arange(3), batch=2))
    torch.testing.assert_close(torch.cat(parts), told.sample(), rtol=0, atol=1e-5)


def test_a_stream_asks_for_no_more_than_is_taken():
    asked = []
    parts = stream(lambda x: asked.append(len(x)) or x, torch.arange(100), batch=10)
    next(parts)
    assert len(asked) == 2  # the batch that was taken, and the next one on its way


@pytest.mark.parametrize(
    ("parts", "batch", "message"),
    [
        ((), 1, "parts: .* got none"),
        ((torch.arange(2), torch.arange(3)), 1, r"got \[2, 3\]"),
        ((torch.arange(2),), 0, "batch"),
    ],
)
def test_a_stream_refuses_bad_input_at_once(parts, batch, message):
    with pytest.raises(ValueError, match=message):
        stream(lambda *x: x[0], *parts, batch=batch)


def test_the_network_of_the_gpu_says_the_same_in_half_precision(lively_load):
    """What is recorded on a GPU, run here: the copy in bfloat16, guided, and batches filled up to the recording's size."""
    model = lively_load("critters-text").given(text=["a cat", "a dog"], scale=2.0)
    plain = model.denoiser.denoiser
    for dtype, tolerance in ((torch.bfloat16, 0.05), (torch.float32, 1e-5)):
        half = QuickGuided(model.denoiser, QuickDenoiser(plain, HalfNetwork(plain.net, dtype)))
        x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
        assert (half(x, 500).x0 - model.denoiser(x, 500).x0).square().mean().sqrt() < tolerance
    assert [len(part) for part in told_to(half)] == [2, 2, 1, 1]  # tokens and mask, given and null
    assert full(torch.tensor([1, 2]), 4).tolist() == [1, 2, 2, 2]


@pytest.mark.parametrize("given", [None, *GIVEN])
def test_what_a_recording_runs_draws_the_same_pictures(lively_load, given):
    """The way of the inputs through a recording's buffers, without the GPU that would replay it."""
    model = lively_load("critters-text" if given else "critters-cat").replace(steps=2)
    model = model.given(**GIVEN[given]) if given else model
    fast, seeds = half(model), torch.arange(3)
    runner = Recorder(new_images, [fast], 3)
    drawn = runner.run([fast], 1, seeds, *told_to(fast.denoiser))
    assert (drawn - model.sample(3)).abs().max() < (
        0.2 if torch.cuda.is_available() else 1e-4
    )  # of bfloat16 or float32
    lengths = [len(part) for part in told_to(fast.denoiser)]
    assert runner.each == [length > 1 for length in lengths] and (not given or max(lengths) <= 3)
    assert not can_be_recorded(model)  # it is on the CPU


def test_what_a_recording_runs_edits_the_same_pictures(lively_load):
    model = lively_load("critters-text").replace(steps=2, eta=0.5)
    captions = ["a cat", "a striped dog", "a wild"]
    for scale in (1.0, 3.0, torch.tensor([1.0, 2.0, 3.0])):
        both = pair(model.given("a cat"), model.given(captions, scale=scale))
        fast, seeds, images = half(both), torch.arange(3), torch.zeros(3, *model.image_shape)
        both_ways = partial(encode_and_decode, trajectory="posterior")
        told = told_to(fast.denoiser)
        runner = Recorder(both_ways, [fast], 3)
        drawn = runner.run([fast], 2, images, seeds, *told)
        wanted = translate(model.given("a cat"), model.given(captions, scale=scale), images, seeds=seeds)
        assert (drawn - wanted).abs().max() < (0.2 if torch.cuda.is_available() else 1e-4)
        assert [len(part) > 1 for part in told] == runner.each and settings(fast) == settings(half(both))
    assert settings(half(pair(model.given("a cat"), model.given("a dog")))) != settings(half(both))


def test_a_recording_is_that_of_its_settings(lively_load):
    model = lively_load("critters-cat")
    told = lively_load("critters-text").given(text="a cat", scale=2.0)
    same, others = settings(half(model)), [model.replace(eta=0.5), model.replace(image_shape=(3, 64, 64)), told]
    others += [told.given(text="a cat", scale=3.0), reversible(model, "belm"), reversible(model, "edict")]
    found = [settings(half(other)) for other in [model, *others]]
    assert found[0] == same and len(set(found)) == len(found)
    model.autoencoder.decoder[0].weight = nn.Parameter(model.autoencoder.decoder[0].weight.clone())
    assert settings(half(model)) != same


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("given", [None, *GIVEN])
def test_recorded_on_a_gpu(lively_load, given):
    model = lively_load("critters-text" if given else "critters-cat").to("cuda")
    if given:
        told = GIVEN[given]
        fetch, model = model.text, model.replace(text=lambda: fetch().to("cuda"))
        model = model.given(**told)
    count = max(3, model.conditions)
    plain, fast = model.sample(count, seeds=5), model.sample(count, seeds=5, fast=True)
    assert (fast - plain).square().mean().sqrt() < 0.05
    again = model.sample(count, seeds=5, batch=2, fast=True)  # recorded for two, the last batch filled up
    assert (again - fast).square().mean().sqrt() < 0.02
    other = model.sample(count, seeds=50, fast=True)  # the same recording, other seeds
    assert (other - fast).square().mean().sqrt() > 0.05
    assert (other - model.sample(count, seeds=50)).square().mean().sqrt() < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_codes_and_translations_recorded_on_a_gpu(lively_load):
    model, other = lively_load("critters-cat").to("cuda"), lively_load("critters-wild").to("cuda")
    pictures = images().to("cuda")
    back = model.decode(model.encode(pictures, fast=True), fast=True)
    assert (back - model.to_images(model.to_latents(pictures))).abs().max() < 1e-2
    plain, fast = translate(model, other, pictures), translate(model, other, pictures, fast=True)
    assert (fast - plain).square().mean().sqrt() < 0.05
    parts = list(stream(lambda seeds: model.sample(len(seeds), seeds, fast=True), torch.arange(5), batch=2))
    assert all(part.device.type == "cpu" for part in parts) and len(torch.cat(parts)) == 5


def test_hurry_leaves_the_models_as_they_were(lively_load):
    model = lively_load("critters-cat")
    with hurry(partial(lambda m: m), [model], 8, "winograd") as (_, models, rows, _):
        assert models[0].denoiser.net is model.denoiser.net and rows == 8 and models[0].grid == model.grid
    assert type(model.denoiser).__name__ == "Denoiser" and type(model.autoencoder).__name__ == "Autoencoder"
