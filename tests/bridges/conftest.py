"""Networks of diffusers as small as they come, with random weights from their configs: nothing is fetched."""

import json
import string

import pytest
import torch

from minidiff.bridges.networks import DiffusersAutoencoder, as_denoiser
from minidiff.bridges.schedulers import training_of
from minidiff.generators import LatentDiffusion

LENGTH = 12  # tokens of a caption, padding included
STABLE = {  # the settings of Stable Diffusion's own scheduler
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


@pytest.fixture
def stable():
    return dict(STABLE)


@pytest.fixture
def scheduler(stable):
    from diffusers import DDIMScheduler

    return DDIMScheduler(**stable)


@pytest.fixture
def unet():
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
    ).eval()


@pytest.fixture
def pixel_unet():
    from diffusers import UNet2DModel

    torch.manual_seed(1)
    return UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    ).eval()


@pytest.fixture
def vae():
    from diffusers import AutoencoderKL

    torch.manual_seed(2)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
    ).eval()


class Letters:
    """A text encoder with a random vector for each letter; like Stable Diffusion's it shows its padding."""

    def tokenizer(self, captions):
        return [torch.tensor([27, *(1 + string.ascii_lowercase.index(c) for c in text), 28]) for text in captions]

    def text_tokens(self, captions):
        table = torch.randn(29, 16, generator=torch.Generator().manual_seed(3))
        ids = torch.nn.utils.rnn.pad_sequence(self.tokenizer([*captions, "x" * (LENGTH - 2)]), batch_first=True)[:-1]
        return table[ids], torch.ones_like(ids, dtype=torch.bool)


@pytest.fixture
def model(unet, vae, scheduler):
    """What `load_pipeline` would give, but for the text encoder, which needs no transformers."""
    shape, text = (3, 16, 16), Letters()
    spacing = training_of(scheduler).spacing
    denoiser = as_denoiser(unet, scheduler).requires_grad_(False)
    return LatentDiffusion(DiffusersAutoencoder(vae), denoiser, shape, steps=5, text=lambda: text, spacing=spacing)


@pytest.fixture
def text_parts(tmp_path):
    """A CLIP text encoder and tokenizer of transformers that spell: a token for each letter, and one for "ca"."""
    transformers = pytest.importorskip("transformers")
    letters = [letter + end for end in ("", "</w>") for letter in string.ascii_lowercase]
    vocab = {token: k for k, token in enumerate([*letters, "ca", "<|startoftext|>", "<|endoftext|>"])}
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\n")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH)
    torch.manual_seed(4)
    config = transformers.CLIPTextConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=vocab["<|startoftext|>"],
        eos_token_id=vocab["<|endoftext|>"],
        pad_token_id=vocab["<|endoftext|>"],
    )
    return {"text_encoder": transformers.CLIPTextModel(config).eval(), "tokenizer": tokenizer}


@pytest.fixture
def parts(unet, vae, scheduler, text_parts):
    """Everything that a pipeline of Stable Diffusion takes."""
    absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return {"unet": unet, "vae": vae, "scheduler": scheduler, **text_parts, **absent}
