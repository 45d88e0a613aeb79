"""The two terms of the ELBO against closed forms, and the shapes of its two ways."""

import pytest
import torch

from minidiff.nets.autoencoder import kl
from minidiff.nets.vae import VAEConfig, VAENetwork
from minidiff.seeds import normal

SMALL = VAEConfig(3, 16, code=5, encoder=(8, 16), decoder=(16, 8, 8))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return VAENetwork(SMALL)


@pytest.mark.parametrize(("config", "side"), [(SMALL, 16), (VAEConfig(), 64)])
def test_shapes(config, side):
    net, images = VAENetwork(config), torch.rand(2, 3, side, side)
    assert net.encode(images).shape == (2, config.code) and net.decoder(net.encode(images)).shape == images.shape
    assert sum(weight.numel() for weight in VAENetwork().parameters()) < 3e6


@torch.no_grad()
def test_the_terms_are_a_gaussian_likelihood_and_the_kl(net):
    images, seeds = torch.rand(3, 3, 16, 16) * 2 - 1, torch.arange(3)
    mean, logvar = net.posterior(images)
    code = mean + (logvar / 2).exp() * normal(seeds, (5,), "posterior")
    assert torch.equal(net.encode(images, seeds), code) and torch.equal(net.encode(images), mean)
    gaussian = torch.distributions.Normal(net.decoder(code), net.config.sigma)
    distortion, rate = net.terms(images, seeds)
    torch.testing.assert_close(distortion, -gaussian.log_prob(images).flatten(1).sum(1))
    torch.testing.assert_close(rate, kl(mean, logvar))


def test_items_do_not_depend_on_their_batch(net):
    images, seeds = torch.rand(4, 3, 16, 16), torch.arange(4)
    for whole, part in zip(net.terms(images, seeds), net.terms(images[2:3], seeds[2:3])):
        torch.testing.assert_close(whole[2:3], part, rtol=1e-5, atol=1e-5)


def test_sizes_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match=r"size: expected a multiple of 16 \(patch 4, 3 widths\), got 24"):
        VAENetwork(VAEConfig(size=24))
