import dataclasses
import math

import pytest
import torch

from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig, kl

SMALL = AutoencoderConfig(image_channels=3, latent_channels=4, patch=2, encoder=(8, 16), decoder=(8, 8, 16), depth=1)
CODED = dataclasses.replace(SMALL, bottleneck="vq", codes=16)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Autoencoder(SMALL)


@pytest.fixture
def coded():
    torch.manual_seed(0)
    return Autoencoder(CODED)


@pytest.mark.parametrize(
    ("config", "images", "latents"),
    [
        (AutoencoderConfig(), (1, 3, 64, 64), (1, 8, 8, 8)),
        (AutoencoderConfig(image_channels=1, latent_channels=4, patch=2), (1, 1, 32, 32), (1, 4, 8, 8)),
        (SMALL, (2, 3, 16, 40), (2, 4, 4, 10)),
        (AutoencoderConfig(patch=8), (1, 3, 32, 16), (1, 8, 2, 1)),
        (AutoencoderConfig(patch=1, latent_channels=2), (1, 3, 6, 10), (1, 2, 3, 5)),
        (CODED, (2, 3, 16, 40), (2, 4, 4, 10)),
    ],
)
def test_shapes(config, images, latents):
    autoencoder = Autoencoder(config)
    x = torch.rand(images) * 2 - 1
    assert autoencoder.encode(x).shape == latents == (len(x), *autoencoder.latent_shape(images))
    assert autoencoder.decode(autoencoder.encode(x)).shape == images


def test_the_default_keeps_to_the_limits():
    autoencoder = Autoencoder()
    assert sum(weight.numel() for weight in autoencoder.parameters()) <= 4_000_000
    assert autoencoder.config.latent_channels <= 8 and autoencoder.config.factor == 8


@pytest.mark.parametrize("patch", [1, 2, 4, 8])
def test_the_decoder_sees_one_latent_as_factor_pixels(patch):
    """What one latent changes, through the 1x1 layers alone, is a square of `factor` pixels at its own place."""
    config = dataclasses.replace(SMALL, patch=patch)
    decoder, f = Autoencoder(config).decoder, config.factor
    for layer in decoder.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.weight.data[..., [0, 0, 0, 2, 2, 2, 1, 1], [0, 1, 2, 0, 1, 2, 0, 2]] = 0  # leave the centre
        if isinstance(layer, torch.nn.GroupNorm):
            layer.weight.data.zero_()  # its statistics see everything
    latents = torch.zeros(1, 4, 3, 5)
    before = decoder(latents)
    latents[:, :, 1, 3] = 1
    changed = (decoder(latents) != before).any(1)[0]
    assert changed.shape == (3 * f, 5 * f) and changed.sum() == f**2 and changed[f : 2 * f, 3 * f : 4 * f].all()


def test_the_names_in_shipped_files_stay():
    assert not any(name.startswith("quantiser") for name in Autoencoder(SMALL).state_dict())
    assert set(Autoencoder(CODED).state_dict()) == {*Autoencoder(SMALL).state_dict(), "quantiser.codebook"}


@torch.no_grad()
def test_a_coded_picture_is_quantised_after_the_scale_is_undone(coded):
    images = torch.rand(4, 3, 8, 16) * 2 - 1
    raw = coded.encoder(images)
    coded.quantiser.codebook.copy_(raw.movedim(1, -1).reshape(-1, 4)[::2] + 0.01)
    coded.fit_scale([images])
    index = coded.quantiser.nearest(raw)
    assert index.unique().numel() > 4 and not torch.allclose(coded.scale, torch.ones(4), rtol=0.1)
    assert torch.allclose(coded.encode(images).std((0, 2, 3), correction=0), torch.ones(4), rtol=1e-4)
    assert torch.allclose(coded.encode(images).mean((0, 2, 3)), torch.zeros(4), atol=1e-5)
    expected = coded.decoder(coded.quantiser.look_up(index))
    assert torch.allclose(coded.decode(coded.encode(images)), expected, atol=1e-5)
    assert not torch.allclose(coded.decoder(raw), expected, atol=1e-3)


@torch.no_grad()
def test_coded_latents_are_certain(coded):
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    mean, logvar = coded.posterior(images)
    assert torch.equal(mean, coded.encoder(images)) and (0.5 * logvar).exp().count_nonzero() == 0
    assert torch.equal(coded.encode(images, seeds=3), coded.encode(images))


@torch.no_grad()
def test_bits_of_both_bottlenecks(small, coded):
    images = torch.rand(3, 3, 8, 16) * 2 - 1
    assert coded.bits(images).tolist() == [2 * 4 * math.log2(16)] * 3
    assert torch.allclose(small.bits(images) * math.log(2), kl(*small.posterior(images)))


@torch.no_grad()
def test_a_channel_that_never_varies_does_not_divide_by_zero(coded):
    coded.encoder[-1].weight[0], coded.encoder[-1].bias[0] = 0, 0.3
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    coded.fit_scale([images])
    assert coded.encode(images).isfinite().all()


@torch.no_grad()
def test_fitted_scale_gives_unit_samples(small):
    images = torch.rand(256, 3, 8, 8) * 2 - 1
    small.fit_scale(images.split(100))
    latents = small.encode(images, seeds=0)
    assert latents.mean((0, 2, 3)).abs().max() < 0.1 and (latents.std((0, 2, 3)) - 1).abs().max() < 0.1
    mean, logvar = small.posterior(images)
    exact = (mean.var((0, 2, 3), correction=0) + logvar.exp().mean((0, 2, 3))).sqrt()
    assert torch.allclose(small.scale, exact, rtol=1e-5)


@torch.no_grad()
def test_decode_undoes_the_scale(small):
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    before = small.decode(small.encode(images))
    small.fit_scale([images])
    assert small.scale.min() > 0 and not torch.allclose(small.scale, torch.ones(4))
    assert torch.allclose(small.decode(small.encode(images)), before, atol=1e-5)


@torch.no_grad()
def test_a_sample_belongs_to_its_seed_not_to_its_batch(small):
    images = torch.rand(3, 3, 8, 8) * 2 - 1
    together = small.encode(images, seeds=[5, 6, 7])
    assert torch.allclose(together[1:2], small.encode(images[1:2], seeds=[6]), atol=1e-6)
    assert not torch.allclose(together[1:2], small.encode(images[1:2], seeds=[5]), atol=1e-3)
    assert torch.equal(small.encode(images), small.encode(images))


def test_kl_is_torch_distributions_kl():
    mean, logvar = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    q = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum((1, 2, 3))
    assert torch.allclose(kl(mean, logvar), expected, rtol=1e-5)


def test_one_batch_can_be_learned_by_heart(small):
    images = torch.rand(4, 3, 1, 1).expand(4, 3, 8, 8) * 2 - 1
    optimizer = torch.optim.AdamW(small.parameters(), 3e-3)
    for _ in range(60):
        loss = (small.decode(small.encode(images)) - images).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01 * images.var()


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 3, 10, 8), (1, 3, 8, 0)])
def test_pictures_that_do_not_fit_are_refused(small, shape):
    with pytest.raises(ValueError, match="images: expected 3 channels and sides that are multiples of 4"):
        small.encode(torch.zeros(shape))


def test_other_bad_input(small):
    with pytest.raises(ValueError, match=r"latents: expected \(B, 4, H, W\), got \(1, 8, 2, 2\)"):
        small.decode(torch.zeros(1, 8, 2, 2))
    with pytest.raises(ValueError, match="patch: expected 1, 2, 4 or 8 pixels, got 3"):
        AutoencoderConfig(patch=3)
    with pytest.raises(ValueError, match="bottleneck: expected one of kl, vq, got 'VQ'"):
        AutoencoderConfig(bottleneck="VQ", codes=8)
    with pytest.raises(ValueError, match="codes: expected at least 2 with bottleneck 'vq', got 0"):
        AutoencoderConfig(bottleneck="vq")
    with pytest.raises(ValueError, match="codes: expected 0, only bottleneck 'vq' has codes, got 8"):
        AutoencoderConfig(codes=8)
    with pytest.raises(ValueError, match="batches: expected at least one"):
        small.fit_scale([])
