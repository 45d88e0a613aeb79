"""The shells change nothing: what comes out is what the networks of diffusers say, and minidiff's tools reach inside."""

import pytest
import torch

diffusers = pytest.importorskip("diffusers")

from minidiff.attention_control import Control  # noqa: E402
from minidiff.bridges.networks import ClippedDenoiser, DiffusersAutoencoder, DiffusersText, DiffusersUNet, as_denoiser  # noqa: E402
from minidiff.edit import align_captions, edit  # noqa: E402
from minidiff.nets.blocks import CrossAttention, SelfAttention, watching  # noqa: E402
from minidiff.seeds import as_seeds, normal  # noqa: E402

T = torch.tensor([3, 700])


def noisy(channels=4, side=8, count=2):
    return normal(as_seeds(7, count), (channels, side, side))


def pictures(count=2):
    return 0.4 * noisy(3, 16, count).clamp(-2.5, 2.5)


@torch.no_grad()
def test_the_net_says_what_their_network_says(unet, pixel_unet):
    tokens = normal(as_seeds(1, 2), (5, 16))
    assert torch.equal(DiffusersUNet(unet)(noisy(), T, tokens), unet(noisy(), T, tokens).sample)
    assert torch.equal(DiffusersUNet(pixel_unet)(noisy(3), T), pixel_unet(noisy(3), T).sample)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    masked = DiffusersUNet(unet)(noisy(), T, tokens, mask)
    torch.testing.assert_close(masked[1:], unet(noisy()[1:], T[1:], tokens[1:, :3]).sample, rtol=0, atol=1e-5)
    assert (masked[1] - unet(noisy(), T, tokens).sample[1]).abs().max() > 1e-4


@torch.no_grad()
def test_a_denoiser_of_their_parts(unet, scheduler):
    denoiser, x = as_denoiser(unet, scheduler), noisy().double()
    tokens = normal(as_seeds(1, 2), (5, 16))
    found = denoiser(x, 500, tokens=tokens)
    eps = unet(x.float(), 500, tokens).sample.double()
    abar = scheduler.alphas_cumprod[500].double()
    torch.testing.assert_close(found.eps, eps, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.x0, (x - (1 - abar).sqrt() * eps) / abar.sqrt(), rtol=0, atol=1e-5)


@torch.no_grad()
def test_pictures_are_clipped_and_latents_are_not(unet, pixel_unet):
    denoiser = as_denoiser(pixel_unet, diffusers.DDPMScheduler())
    assert isinstance(denoiser, ClippedDenoiser)
    assert denoiser(noisy(3), 900).x0.abs().max() == 1
    with pytest.raises(ValueError, match="clip_sample cuts x0 at 1, .* clip_sample=False"):
        as_denoiser(unet, diffusers.DDIMScheduler())


@torch.no_grad()
def test_a_learnt_variance_is_left_out():
    torch.manual_seed(0)
    settings = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "norm_num_groups": 4}
    unet = diffusers.UNet2DModel(block_out_channels=(8,), in_channels=3, out_channels=6, **settings)
    assert torch.equal(DiffusersUNet(unet)(noisy(3), T), unet(noisy(3), T).sample[:, :3])


@torch.no_grad()
@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize(("kind", "keys"), [(CrossAttention, 5), (SelfAttention, 16)])
def test_watching_sees_probabilities_and_changes_nothing_by_looking(unet, kind, keys, sliced):
    if sliced:
        unet.set_attention_slice(1)
    net, tokens, seen = DiffusersUNet(unet), normal(as_seeds(1, 2), (5, 16)), []
    before, processors = net(noisy(), T, tokens), dict(unet.attn_processors)

    def look(probabilities):
        seen.append(probabilities)
        return probabilities

    with watching(net, kind, look):
        torch.testing.assert_close(net(noisy(), T, tokens), before, rtol=0, atol=1e-6)
    assert len(seen) == 4 and {each.shape for each in seen} == {(2, 2, 16, keys)}  # 4 layers, 2 heads, 4 x 4 places
    assert all((each.sum(-1) - 1).abs().max() < 1e-5 for each in seen)
    assert unet.attn_processors == processors
    assert torch.equal(net(noisy(), T, tokens), before)
    with watching(net, kind, lambda probabilities: probabilities.flip(0)):
        assert (net(noisy(), T, tokens) - before).abs().max() > 1e-4
    assert torch.equal(net(noisy(), T, tokens), before)


@torch.no_grad()
def test_the_autoencoder_owns_its_scale(vae):
    ours, images = DiffusersAutoencoder(vae), pictures()
    raw = vae.encode(images).latent_dist
    torch.testing.assert_close(ours.encode(images), raw.mean * 0.18215)
    sample = raw.mean + raw.std * normal(as_seeds(5, 2), (4, 8, 8), "posterior")
    torch.testing.assert_close(ours.encode(images, seeds=5), sample * 0.18215)
    latents = noisy()
    torch.testing.assert_close(ours.decode(latents), vae.decode(latents / 0.18215).sample)
    assert ours.latent_shape((3, 16, 32)) == (4, 8, 16)
    with pytest.raises(ValueError, match=r"images: expected 3 channels and sides that are multiples of 2, got shape"):
        ours.latent_shape((3, 15, 16))


@torch.no_grad()
def test_other_scales(vae):
    vae.register_to_config(scaling_factor=0.5, shift_factor=0.1)
    raw = vae.encode(pictures()).latent_dist.mean
    torch.testing.assert_close(DiffusersAutoencoder(vae).encode(pictures()), (raw - 0.1) * 0.5)
    mean, std = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]
    vae.register_to_config(latents_mean=mean, latents_std=std)
    ours = DiffusersAutoencoder(vae)
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    torch.testing.assert_close(ours.encode(pictures()), (raw - mean) * 0.5 / std)
    torch.testing.assert_close(ours.decode(ours.encode(pictures())), vae.decode(raw).sample)


@pytest.mark.parametrize("method", ["cyclediffusion", "independent", "control", "ddib"])
def test_what_edits_our_models_edits_theirs(model, method):
    """Equal captions give back the picture as the autoencoder sees it; others do not."""
    settings = {"method": "ddib" if method == "ddib" else "cyclediffusion", "scale": 2.0, "source_scale": 2.0}
    settings["trajectory"] = "independent" if method == "independent" else "posterior"
    settings["control"] = Control() if method == "control" else None
    same, other = (edit(model, pictures(), "cat", target, **settings) for target in ("cat", "dog"))
    if method != "ddib":  # which is not exact
        seen = model.to_images(model.to_latents(pictures()))
        torch.testing.assert_close(same, seen, rtol=0, atol=1e-4)
    assert (other - same).abs().max() > 1e-3


def test_item_by_item_through_their_networks(model):
    control = Control(self_part=1.0)
    both = edit(model, pictures(), ["cat", "dog"], ["cats", "fox"], seeds=[4, 9], control=control)
    alone = edit(model, pictures()[1:], "dog", "fox", seeds=[9], control=control)
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-4)


def test_padding_that_is_attended_to_looks_where_the_source_s_does(model):
    (places,) = align_captions(model, "cat", "cats", Control())
    assert places.tolist() == [0, 1, 2, 3, -1, 4, 6, 7, 8, 9, 10, 11]  # start c a t, a new s, end, padding
    with pytest.raises(ValueError, match="'replace' needs captions of equal length, got 5 and 6 tokens"):
        align_captions(model, "cat", "cats", Control("replace"))


def test_the_gradient_of_a_picture_reaches_the_code(model):
    code = model.random_code(1).requires_grad_()
    model.given("cat").decode(code).square().sum().backward()
    assert code.grad.flatten(2).norm(dim=2).min() > 0


def test_weights_that_are_elsewhere_still_compute(model, unet, scheduler):
    """accelerate keeps the weights in a store and puts them in place layer by layer, as sequential offloading does."""
    from accelerate import cpu_offload

    told = model.replace(steps=2).given("cat")
    before = told.sample(1)
    cpu_offload(unet, torch.device("cpu"))
    assert unet.device.type == "meta"
    denoiser = as_denoiser(unet, scheduler)
    assert denoiser.net.home.device.type == "cpu"
    found = model.replace(denoiser=denoiser, steps=2).given("cat").sample(1)
    torch.testing.assert_close(found, before, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"addition_embed_type": "text"}, "conditions that minidiff cannot give: {'addition_embed_type': 'text'}"),
        ({"num_class_embeds": 3}, "cannot give: {'num_class_embeds': 3}"),
        ({"in_channels": 9}, "expected as many channels out as in, got 9 in and 4 out"),
    ],
)
def test_networks_that_ask_for_more_are_refused(unet, settings, says):
    asking = diffusers.UNet2DConditionModel.from_config(unet.config, **settings)
    with pytest.raises(ValueError, match=says):
        DiffusersUNet(asking)


def test_other_refusals(unet, vae, scheduler):
    with pytest.raises(ValueError, match="unet: expected a UNet2DModel or a UNet2DConditionModel, got a Linear"):
        as_denoiser(torch.nn.Linear(1, 1), scheduler)
    with pytest.raises(ValueError, match="vae: expected an AutoencoderKL, got a UNet2DConditionModel"):
        DiffusersAutoencoder(unet)
    with pytest.raises(ValueError, match="vae: expected latents 2, 4, 8 or 16 pixels wide, got 1"):
        DiffusersAutoencoder(diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4))
    with pytest.raises(ValueError, match=r"takes tokens \(B, L, 16\), got none: tell it what to draw"):
        as_denoiser(unet, scheduler)(noisy(), 3)


@torch.no_grad()
def test_their_text_encoder(text_parts):
    text = DiffusersText(text_parts["text_encoder"], text_parts["tokenizer"])
    hidden, mask = text.text_tokens(["dog", "a dog"])
    ids = text_parts["tokenizer"](["dog", "a dog"], padding="max_length", max_length=12, return_tensors="pt").input_ids
    assert torch.equal(hidden, text_parts["text_encoder"](ids)[0]) and mask.all() and mask.shape == (2, 12)
    assert [len(row) for row in text.tokenizer(["dog", "a dog"])] == [5, 6]  # start, d, o, g, end
    with pytest.raises(ValueError, match="text: a caption of 11 tokens, but there is room for 10: 'abc abc abc bb'"):
        text.text_tokens(["cat", "abc abc abc bb"])
