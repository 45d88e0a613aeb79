"""Models as small as they come, untrained: enough to run every line of a study in seconds."""

import json
from functools import cache, partial

import pytest
import torch

from minidiff.conditioning import MAP_CHANNELS
from minidiff.data.renderer import PARTS
from minidiff.data.tokens import Tokenizer
from minidiff.denoiser import Denoiser
from minidiff.evaluation.probes import critters_config, fashion_config
from minidiff.families import FAMILIES
from minidiff.generators import Identity, LatentDiffusion
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.clip import ClipConfig, new_clip
from minidiff.nets.ddgan import DDGANConfig, DDGANNetwork
from minidiff.nets.diffae import DiffAEConfig, DiffAENetwork
from minidiff.nets.flow import FlowConfig, FlowNetwork
from minidiff.nets.gan import GANConfig, GANNetwork
from minidiff.nets.identity import IdentityConfig, IdentityNet
from minidiff.nets.probe import Probe
from minidiff.nets.segmenter import Segmenter, SegmenterConfig
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.nets.vae import VAEConfig, VAENetwork
from minidiff.schedule import linear


def tiny(name: str, size: int = 32):
    """A stand-in for `minidiff.load` that has every name and no weights."""
    torch.manual_seed(len(name))
    world, kind, *_ = name.split("-")
    channels = 1 if world == "fashion" else 3
    if kind == "segmenter":
        return Segmenter(SegmenterConfig(parts=len(PARTS), widths=(32, 32))).eval()
    if kind == "clip":
        vision = {"image_size": size, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}
        text = {"context_length": 20, "vocab_size": Tokenizer.vocab_size, "width": 32, "heads": 2, "layers": 1}
        return new_clip(ClipConfig(16, vision, text)).eval().requires_grad_(False)
    if kind == "identity":
        config = IdentityConfig(channels, size, patch=size // 8, widths=(8, 16), features=8)
        return IdentityNet(config).eval().requires_grad_(False)
    if kind == "probe":
        return Probe(critters_config(size) if world != "fashion" else fashion_config(size)).eval()
    autoencoder = Autoencoder(
        AutoencoderConfig(image_channels=channels, latent_channels=4, encoder=(8, 16), decoder=(8, 8, 16), depth=1)
    )
    if kind == "autoencoder":
        return autoencoder.eval()
    if kind in FAMILIES:
        network = ready(family_network(kind, channels, size))
        return FAMILIES[kind](
            Identity() if kind in ("vae", "gan") else autoencoder.eval(), network, (channels, size, size)
        )
    told = {"context": 32, "classes": 3} if kind in ("text", "maps") else {}
    told |= {"maps": MAP_CHANNELS, "map_features": 4} if kind == "maps" else {}
    net = UNet(UNetConfig(in_channels=4, channels=(8, 32), attention=(False, True), time=16, **told))
    for parameter in net.last.parameters():  # a new network starts at zero, and all would look alike
        torch.nn.init.normal_(parameter, std=0.1)
    denoiser, shape = Denoiser(net, linear()).eval().requires_grad_(False), (channels, size, size)
    return LatentDiffusion(
        autoencoder.eval(), denoiser, shape, steps=4, text=cache(partial(tiny, f"{world}-clip", size))
    )


def family_network(kind: str, channels: int, size: int):
    """The network of one of the other families: of pictures, or of the latents of the tiny autoencoder."""
    unet = {"in_channels": 4, "channels": (8, 32), "attention": (False, True), "time": 16, "tokens": 2, "context": 32}
    if kind == "vae":
        return VAENetwork(VAEConfig(channels, size, code=8, encoder=(8, 16), decoder=(16, 8, 8)))
    if kind == "flow":
        return FlowNetwork(FlowConfig(channels=4, steps=2, widths=(8, 8)))
    if kind == "gan":
        return GANNetwork(GANConfig(channels, size, code=8, widths=(16, 8, 8), patch=2))
    if kind == "ddgan":
        return DDGANNetwork(DDGANConfig(**unet, code=6, steps=3))
    return DiffAENetwork(DiffAEConfig(**unet, size=size // 8, semantic=16, encoder=(8, 16), prior=(32, 1)))


def ready(net):
    """Ready for use, and none of its layers zero as in a new network: everything has an effect."""
    for layer in net.modules():
        if isinstance(getattr(layer, "weight", None), torch.nn.Parameter) and not layer.weight.any():
            torch.nn.init.normal_(layer.weight, std=0.1)
    return net.eval().requires_grad_(False)


@pytest.fixture
def tiny_load():
    return tiny


@pytest.fixture
def small_open_clip(tmp_path, monkeypatch):
    """The name of a model of open_clip's, neither ours nor fetched: small, untrained, with its own tokenizer and colours."""
    import open_clip

    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 1}
    (tmp_path / "Small-B-16.json").write_text(json.dumps({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(tmp_path / "Small-B-16.json")
    create = open_clip.create_model
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda arch: ["none", "one"])
    monkeypatch.setattr(open_clip, "create_model", lambda arch, pretrained, device: create(arch, device=device))
    torch.manual_seed(1)
    return "open_clip:Small-B-16/none"
