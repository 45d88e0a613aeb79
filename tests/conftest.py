"""Models as small as they come, untrained: enough to run every line of a study in seconds."""

import pytest
import torch

from minidiff.denoiser import Denoiser
from minidiff.evaluation.probes import critters_config, fashion_config
from minidiff.generators import LatentDiffusion
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.probe import Probe
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.schedule import linear


def tiny(name: str, size: int = 32):
    """A stand-in for `minidiff.load` that has every name and no weights."""
    torch.manual_seed(len(name))
    world, kind = name.split("-")
    channels = 3 if world == "critters" else 1
    if kind == "probe":
        return Probe(critters_config(size) if world == "critters" else fashion_config(size)).eval()
    autoencoder = Autoencoder(
        AutoencoderConfig(image_channels=channels, latent_channels=4, encoder=(8, 16), decoder=(8, 8, 16), depth=1)
    )
    if kind == "autoencoder":
        return autoencoder.eval()
    net = UNet(UNetConfig(in_channels=4, channels=(8, 32), attention=(False, True), time=16))
    for parameter in net.last.parameters():  # a new network starts at zero, and all would look alike
        torch.nn.init.normal_(parameter, std=0.1)
    return LatentDiffusion(autoencoder.eval(), Denoiser(net, linear()).eval(), (channels, size, size), steps=4)


@pytest.fixture
def tiny_load():
    return tiny
