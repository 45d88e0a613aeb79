# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# ---
# numbering:
#   equation: false
# ---
#
# # 13. From here to Stable Diffusion
#
# **What changes when the model is two hundred times larger?**
#
# Stable Diffusion is the machine of these lessons with larger numbers: an autoencoder, a denoiser of its latents, a
# reader of captions. The library that most people run it with is *diffusers*. The road between the two has two lanes.
# On one of them, below, a model of ours has become a folder that diffusers opens and draws with.

# %%
import json
import math
import string
import sys
import tempfile
from functools import cache, partial
from itertools import accumulate
from pathlib import Path
from unittest.mock import patch

import diffusers
import pytest
import torch
import transformers
from IPython.display import display

import minidiff
from minidiff import plot
from minidiff.schedule import linear, sqrt_linear

for library in (diffusers, transformers):
    library.utils.logging.disable_progress_bar()
home = Path(tempfile.mkdtemp())
text = minidiff.load("critters-text").replace(steps=10)
captions = ["a black cat on a yellow background", "a smiling orange cat wearing a blue hat on a green background",
            "a brown dog on a blue background", "a smiling white dog wearing glasses on a blue background"]  # fmt: skip
ours = text.given(captions, scale=3.0).sample(seeds=40)

minidiff.save_pipeline(text, home / "critters-text")
pipe = diffusers.DiffusionPipeline.from_pretrained(home / "critters-text", trust_remote_code=True)
pipe.set_progress_bar_config(disable=True)


def drawn(scheduler, **settings):
    """The same four pictures by diffusers, with a scheduler of theirs; images in [-1, 1]."""
    pipe.scheduler = scheduler
    told = {"num_inference_steps": 10, "guidance_scale": 3.0, "seeds": 40, "output_type": "pt"}
    return 2 * pipe(captions, **told | settings).images - 1


ddim = pipe.scheduler
theirs = drawn(ddim, eta=0.1)
unipc = drawn(diffusers.UniPCMultistepScheduler.from_config(ddim.config))
gap = (theirs - ours.clamp(-1, 1)).abs().max().item()
print(f"largest difference between minidiff and diffusers: {gap:.0e}")
assert gap < 1e-4
plot.grid([ours, theirs, unipc], row_labels=["minidiff", "diffusers", "UniPC"],
          alt="Four critters asked for in words. The rows of minidiff and of diffusers are equal; those of UniPC are relatives.")  # fmt: skip

# %% [markdown]
# *The first two rows are equal to the last digits. The third is what you gain: a sampler of theirs that we never wrote
# for this model. Look for the same animal in the same place, drawn a little differently.*
#
# ```{tip}
# **After this lesson you can**
# 1. translate every setting of minidiff into diffusers' words and back, and test that you did;
# 2. run encoding, editing, attention control and guidance on a Stable Diffusion pipeline, and say which of their
#    properties hold for any weights;
# 3. compute how much memory a network will need before you own the machine.
#
# **Needs** lessons 6, 9 and 10. **Read** 25 minutes. **Run** a minute on two cores, under 2 GB; no download.
# **Checkpoints** `critters-text`, `critters-clip`, `critters-autoencoder`.
# ```
#
# | symbol | in code | meaning | shape |
# |---|---|---|---|
# | $\beta_t$ | `betas` | the noise that step $t$ of the forward process adds | (T,) |
# | $\bar\alpha_t$ | `abar`, `alphas_cumprod` | $\prod_{u \le t} (1 - \beta_u)$, the share of signal power left | (T,) |
# | $\sigma_t$ | `sigma_at(t)`, `sigmas` | $\sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}$, the noise on clean data | (T,) |
# | $s$ | `scale`, `guidance_scale` | guidance: null + $s$ (given - null) | a number |
# | $N$ | | how many latents a channel has: 64 for our 8x8, 4,096 for their 64x64 | a number |

# %% [markdown]
# ## 1. The same words on a larger model
#
# A model is its shapes before it is its weights. PyTorch can build a network on the device `meta`, where tensors have a
# shape, a type and no content. So the whole of Stable Diffusion 1 fits into this notebook, as long as you ask it
# nothing but sizes. The numbers below are its configuration; the rest are the defaults of the classes.


# %%
BIG = {
    "unet": {"sample_size": 64, "cross_attention_dim": 768},
    "vae": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512},
    "text": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
             "vocab_size": 49408, "max_position_embeddings": 77},
}  # fmt: skip


def networks(unet, vae, text):
    """A U-Net, an autoencoder and a text encoder of these settings, with random weights."""
    blocks = len(vae["block_out_channels"])
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * blocks, "up_block_types": ["UpDecoderBlock2D"] * blocks}
    return (diffusers.UNet2DConditionModel(**unet).eval(), diffusers.AutoencoderKL(**kinds, **vae).eval(),
            transformers.CLIPTextModel(transformers.CLIPTextConfig(**text)).eval())  # fmt: skip


def count(network):
    return sum(weights.numel() for weights in network.parameters())


with torch.device("meta"):
    unet, vae, reader = networks(**BIG)
rows = {"U-Net": (text.denoiser, unet), "autoencoder": (text.autoencoder, vae), "text": (text.text(), reader)}
for name, (small, big) in rows.items():
    print(f"{name:12} ours {count(small) / 1e6:6.2f} M    Stable Diffusion 1 {count(big) / 1e6:7.2f} M")
assert count(unet) == 859_520_964 and count(vae) == 83_653_863 and count(reader) == 123_060_480
assert 150 < count(unet) / count(text.denoiser) < 300

# %% [markdown]
# Read the ratio of the U-Nets: about two hundred. Their latents are (4, 64, 64) and ours (8, 8, 8). Nothing else is
# new. But the two libraries put a few things in different places, and each row of this table has cost somebody an
# afternoon:
#
# | what | minidiff | diffusers |
# |---|---|---|
# | scale of the latents | inside `Autoencoder.encode` and `decode` | the caller multiplies by `vae.config.scaling_factor`, 0.18215 |
# | what the network predicts | `Denoiser.predicts`: eps, x0, v | `scheduler.config.prediction_type`: epsilon, sample, v_prediction |
# | noise levels | `schedule.abar`, float64 | `scheduler.alphas_cumprod`, float32 |
# | which levels to visit | `spacing`, `step_grid` | `timestep_spacing`, `steps_offset` |
# | clean data | level -1 | `set_alpha_to_one`; Stable Diffusion stops at level 0 |
# | guidance | `given(..., scale=s)` | `guidance_scale=s`, and $1 + w$ in Ho and Salimans (2022) |
# | padding of a caption | masked | attended to, all 77 tokens |
# | freshness of the noise | `eta`, 0.1 unless you say otherwise | `eta`, 0 unless you say otherwise |
# | noise of a step | a block of the code | `variance_noise`, or whatever a generator draws |
#
# 0.18215 is one over the standard deviation of the latents of one batch, frozen by Rombach et al. (2022); ours is
# measured for each channel. Now the tables of noise levels.

# %%
STABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
          "set_alpha_to_one": False, "steps_offset": 1}  # fmt: skip
scheduler = diffusers.DDIMScheduler(**STABLE)
schedule = sqrt_linear()
betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
by_hand = torch.cumprod(1 - betas, dim=0)
euler = diffusers.EulerDiscreteScheduler(**{k: STABLE[k] for k in ("beta_start", "beta_end", "beta_schedule")})
euler.set_timesteps(5)
for t, sigma in zip(euler.timesteps, euler.sigmas):
    print(f"level {t:6.1f}   their sigma {sigma:8.4f}   ours {schedule.sigma_at(t.item()):8.4f}")
print(f"abar at the end: {schedule.abar[-1]:.4f}, in our schedule {linear().abar[-1]:.6f}")
assert torch.equal(by_hand, schedule.abar)
assert torch.allclose(by_hand.float(), scheduler.alphas_cumprod, atol=1e-6)
assert all(abs(schedule.sigma_at(t.item()) / sigma - 1) < 1e-3 for t, sigma in zip(euler.timesteps, euler.sigmas))
assert 0.0046 < schedule.abar[-1] < 0.0047 and linear().abar[-1] < 1e-4

# %% [markdown]
# Both interpolate between whole levels, so the tables agree to a thousandth even there. **A table that agrees is a
# test. A table that looks right is none.**

# %% [markdown]
# ## 2. Do it wrong first
#
# Each mistake below passes every check of shapes. The four pictures are drawn again, each time with one row of the
# table wrong. Guess which, before you open the answer.

# %%
from minidiff.bridges.schedulers import trained_betas
from minidiff.evaluation.metrics import psnr

latents = drawn(ddim, eta=0.1, output_type="latent") / 2 + 0.5  # undo what `drawn` does to pictures
with torch.no_grad():
    wrong = {
        "A": drawn(diffusers.DDIMScheduler.from_config(ddim.config, clip_sample=True), eta=0.1),
        "B": drawn(diffusers.DDIMScheduler.from_config(ddim.config, trained_betas=trained_betas(schedule)), eta=0.1),
        "C": pipe.vae.decode(0.18215 * latents).sample.clamp(-1, 1),
    }
plot.grid([theirs, *wrong.values()], row_labels=["right", *wrong],
          alt="Four right critters; in row A, B and C they are drawn wrongly, each row in its own way.")  # fmt: skip
for name, images in wrong.items():
    print(f"{name}: {psnr(images, theirs).mean():.1f} dB")
    assert psnr(images, theirs).mean() < 30 < psnr(ours.clamp(-1, 1), theirs).mean()
with pytest.raises(ValueError, match="the network predicts 'v_prediction'") as refused:
    drawn(diffusers.DDIMScheduler.from_config(ddim.config, prediction_type="epsilon"))
print("refused:", str(refused.value).partition(";")[0])

# %% [markdown]
# ```{dropdown} What went wrong
# - **A. `clip_sample=True`,** the default of diffusers' schedulers. It cuts the predicted $x_0$ at 1, which is right
#   for pixels. Latents have standard deviation 1, so about a third of the numbers are cut at every step.
# - **B. The noise levels of Stable Diffusion** for a network that learned others. It is told level $t$ and shown the
#   noise of another level. This is the worst of the three, because it looks right. Only the comparison shows it.
# - **C. The scale applied twice.** The decoder sees latents that are five times too small, and draws something near the
#   average picture.
# ```
#
# A fourth mistake, reading a network's v as its eps, is refused, since the folder says what the network predicts. The
# other three are legal settings.

# %% [markdown]
# ## 3. The smallest case, in closed form: a schedule that ends too early
#
# $\bar\alpha$ of Stable Diffusion ends at 0.0047, so $x_T$ still holds $\sqrt{0.0047} = 7\,\%$ of the picture. Sampling starts from pure
# noise and ignores this. Does it matter? Take the simplest property of a picture, its mean brightness. Write $u$ for
# $\sqrt N$ times the mean of a latent channel: the noise in it then has standard deviation 1, and if the brightness of
# pictures is $\mathcal N(0, b^2)$, then $u_0 \sim \mathcal N(0, N b^2)$. That is Gaussian data again, and the ODE of a
# perfect denoiser multiplies the start by the ratio of the two standard deviations:
#
# $$ u_0 = \frac{\sqrt N\, b}{\sqrt{\bar\alpha_T N b^2 + 1 - \bar\alpha_T}}\; u_T. $$
#
# The training data had $u_T$ with exactly the deviation in the denominator. We start with deviation 1. So the
# brightness of what we draw is too narrow, by the factor $1 / \sqrt{1 + \bar\alpha_T (N b^2 - 1)}$. Below is that
# formula for $b = 0.5$, beside what the package's ideal denoiser and its ordinary sampler make.

# %%
from minidiff.generators import Identity, LatentDiffusion
from minidiff.ideal import IdealDenoiser

sides, b = [8, 16, 32, 64, 128], 0.5
lines, dots = {}, {}
for name, levels in {"our schedule": linear(), "Stable Diffusion's": schedule}.items():
    lines[name] = [1 / math.sqrt(1 + levels.abar[-1].item() * (side**2 * b**2 - 1)) for side in sides]
    dots[name] = []
    for side in sides:
        means = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
        ideal = LatentDiffusion(Identity(None), IdealDenoiser(levels, means, std=side * b), (1, 1, 1), steps=250, eta=0)
        start = torch.randn(4000, 1, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(side))
        dots[name].append((ideal.decode(start).std() / (side * b) / start.std()).item())
    table = list(zip(sides, dots[name], lines[name]))
    print(f"{name:18}" + "".join(f"{side:5}: {found:.2f} ({closed:.2f})" for side, found, closed in table))
    assert all(abs(found / closed - 1) < 0.05 for _, found, closed in table)
assert lines["our schedule"][0] > 0.99 and lines["Stable Diffusion's"][3] < 0.5

# %% jupyter={"source_hidden": true} tags=["hide-input"]
both = {f"{name}, {kind}": part[name] for name in lines for kind, part in {"formula": lines, "measured": dots}.items()}
powers = [math.log2(side) for side in sides]
plot.curves(both, x=powers, xlabel="side of the latents, as a power of 2", ylabel="spread of brightness",
            alt="Share of the spread of brightness that samples keep, by side of the latents: near 1 for our schedule up to 32, "
            "for Stable Diffusion's it falls below a half at 64.")  # fmt: skip

# %% [markdown]
# *Formula and measurement coincide. Find 3 on the upper pair of lines, which is us, and 6 on the lower one, which is
# them.*
#
# At our size nothing is lost. At theirs less than half of the spread is left: Stable Diffusion is known to draw no very
# dark and no very bright pictures, and this is why (Lin et al., 2024). The schedule alone is not to blame: more latents
# agree on the brightness, so more noise is needed to hide it. **A schedule that is right for a small model need not be
# right for a large one.** Editing is spared. DPM-Encoder starts from $x_T \sim q(x_T \mid x_0)$, so a code of a real
# picture brings its brightness along.

# %% [markdown]
# ## 4. What holds for any weights
#
# The properties of lessons 9 and 10 were proved without looking at the weights. So we can test them on Stable
# Diffusion's classes without its weights: the pipeline below has every part of the real one, with small numbers and
# random content. Its captions are spelled, a token for each letter.


# %%
from minidiff.attention_control import Control
from minidiff.bridges.pipelines import from_pipeline
from minidiff.data.critters import Critters
from minidiff.edit import edit
from minidiff.seeds import as_seeds, normal

SMALL = {
    "unet": {"sample_size": 8, "block_out_channels": (32, 32), "layers_per_block": 1, "norm_num_groups": 8,
             "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 4,
             "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 16},
    "vae": {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1, "sample_size": 64},
    "text": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "vocab_size": 54, "max_position_embeddings": 12, "bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53},
}  # fmt: skip
letters = [letter + end for end in ("", "</w>") for letter in string.ascii_lowercase]
vocabulary = {token: k for k, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
(home / "vocab.json").write_text(json.dumps(vocabulary))
(home / "merges.txt").write_text("#version: 0.2\n")
torch.manual_seed(13)
tiny_unet, tiny_vae, tiny_reader = networks(**SMALL)
parts = {"unet": tiny_unet, "vae": tiny_vae, "text_encoder": tiny_reader, "scheduler": scheduler,
         "tokenizer": transformers.CLIPTokenizer.from_pretrained(home, model_max_length=12),
         "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}  # fmt: skip
diffusers.StableDiffusionPipeline(**parts).save_pretrained(home / "tiny")
model = minidiff.load_pipeline(home / "tiny").replace(steps=10)  # what you would do with the real one
print(model.latent_shape, "levels", [step.t for step in model.grid], "and the last step lands on", model.grid[-1].s)
assert model.latent_shape == (4, 8, 8) and (model.grid[0].t, model.grid[-1].s) == (901, 0)

# %% [markdown]
# The grid is theirs: `steps_offset=1` begins at 901, and the last step lands on level 0, a little short of clean data.
# minidiff's encoder ends its path at the picture all the same.
#
# **The round trip is exact.** Lesson 9 proved it for any network. Is it exact in half precision, too? Look at the
# proof: the encoder solves $x_s = \mu(x_t) + \sigma \epsilon$ for the noise, and the decoder computes the same
# $\mu(x_t)$ again. Nobody asked for the right $\mu$, only twice for the same one. What has to be precise is the state
# $x_t$, and minidiff keeps that in float32.

# %%
kinds = [minidiff.load_pipeline(home / "tiny", dtype=kind) for kind in (torch.float64, torch.float32, torch.bfloat16)]
exact, plain, half = (each.replace(steps=10).given("cat", scale=3.0) for each in kinds)
y = normal(as_seeds(20, 2), model.latent_shape)


def worst(a, b):
    return (a - b).abs().max().item()


trips, ode = {}, exact.replace(eta=0)
for name, way_in, way_out, start in (("float64", exact, exact, y.double()), ("float32", plain, plain, y),
                                     ("networks in bfloat16", half, half, y), ("in float32, out bfloat16", plain, half, y),
                                     ("DDIM inversion, float64", ode, ode, y.double())):  # fmt: skip
    trips[name] = worst(way_out.decode_latents(way_in.encode_latents(start)), start)
    print(f"{name:26} {trips[name]:.0e}")
assert trips["float64"] < 1e-11 and max(trips["float32"], trips["networks in bfloat16"]) < 1e-4
assert trips["in float32, out bfloat16"] > 1e-3 and trips["DDIM inversion, float64"] > 0.3

# %% [markdown]
# Read the third line and the fourth. With networks of eight bits of precision the trip is as exact as in 32, as long as
# the network repeats itself. Encode on one machine and decode on another, with other kernels, and it is not. DDIM
# inversion, which many editors of Stable Diffusion build on, is off by the size of the latents, in float64. (An
# untrained network with guidance is its worst case. Lesson 9 has the ordinary one.)
#
# **Editing.** Words change the picture; equal words and scales give it back. The edit-friendly inversion of
# Huberman-Spiegelglas et al. (2024) is the argument `trajectory`, attention control (Hertz et al., 2023) the argument
# `control`. A random network makes no dogs, so we look at the properties alone.

# %%
cats = Critters("cat", seed=2)[:2]
settings = {"scale": 3.0, "strength": 0.8, "steps": 10}
back = model.to_images(model.to_latents(cats))  # the autoencoder's own error is not the editor's
ways = {"CycleDiffusion": {}, "edit-friendly": {"trajectory": "independent"},
        "attention control": {"control": Control("replace")}}  # fmt: skip
changed = {name: edit(model, cats, "fox", "dog", **way, **settings) for name, way in ways.items()}
same = {}
for name, way in ways.items():
    same[name] = worst(edit(model, cats, "fox", "fox", source_scale=3.0, **way, **settings), back)
    print(f"{name:18} same words {same[name]:.0e}   other words {worst(changed[name], back):.3f}")
    assert same[name] < 0.02 < 0.1 < worst(changed[name], back)
assert worst(changed["attention control"], changed["CycleDiffusion"]) > 0.05
assert same["attention control"] > 3 * same["CycleDiffusion"]

# %% [markdown]
# Did you notice that attention control gives the picture back with a larger error than the others? To see the attention
# it must exchange the fast kernel, which never writes it down, for a plain one. Another kernel, another rounding: the
# fourth line of the table above, in small.
#
# **Guidance by an energy** (lesson 11) needs a gradient through the sampler and the decoder. Both are ordinary modules,
# so it is there. The wish below is a dark picture.

# %%
from minidiff.guide import guide

told = model.replace(eta=1.0).given("cat")
chain = list(guide(told, lambda images, code: 2000 * images.mean((1, 2, 3)), count=2, steps=8))
print("brightness:", " ".join(f"{state.energy.mean() / 2000:.3f}" for state in chain))
assert chain[-1].energy.mean() < chain[0].energy.mean() - 1

# %% [markdown]
# ## 5. diffusers' own CycleDiffusion, and where it is wrong
#
# diffusers has a `CycleDiffusionPipeline`, written in 2022 and now among its deprecated pipelines. It draws all its
# noise from one function. Handed our streams of noise, it should do what we do.

# %%
cycle = diffusers.CycleDiffusionPipeline(**parts)
cycle.set_progress_bar_config(disable=True)
module = sys.modules[type(cycle).__module__]
before, after = ["cat", "ape"], ["dog", "fox"]


def by_theirs(y, seeds, words, scale):
    noises = (normal(as_seeds(seeds, len(y)), y.shape[1:], f"path {k}") for k in range(99))
    told = {"prompt": words[1], "source_prompt": words[0], "guidance_scale": scale, "eta": 0.1, "strength": 0.8}
    with patch.object(module, "randn_tensor", lambda *_, **__: next(noises)):
        return cycle(image=y, num_inference_steps=10, output_type="latent", **told).images


def by_ours(y, seeds, words, scale):
    ready = from_pipeline(cycle).replace(steps=10, strength=0.8, eta=0.1)
    return ready.given(words[1], scale=scale).decode_latents(ready.given(words[0]).encode_latents(y, seeds))


differences = {}
for scale in (1.0, 3.0):
    alone = {way: torch.cat([way(y[i : i + 1], [5 + i], ([before[i]], [after[i]]), scale) for i in (0, 1)])
             for way in (by_ours, by_theirs)}  # fmt: skip
    differences[f"ours and theirs, one by one, scale {scale:g}"] = worst(*alone.values())
    for way, singles in alone.items():
        two = way(y, [5, 6], (before, after), scale)
        differences[f"{way.__name__[3:]}, two at once or one by one, scale {scale:g}"] = worst(two, singles)
for name, difference in differences.items():
    print(f"{name:45} {difference:.0e}")
assert differences.pop("theirs, two at once or one by one, scale 3") > 0.01
assert max(differences.values()) < 2e-4
with patch.object(cycle, "scheduler", diffusers.DDIMScheduler.from_config(scheduler.config, set_alpha_to_one=True)):
    assert by_theirs(y[:1], [5], ("cat", "dog"), 1.0).isnan().all()
    assert by_ours(y[:1], [5], ("cat", "dog"), 1.0).isfinite().all()

# %% [markdown]
# One picture at a time the two agree, guided or not. A guided batch of two comes out wrong: the code takes the first
# two of the four predictions for "without words" and "with words" of one picture, as they are when the batch is one.
# Two more defects: with `set_alpha_to_one=True` the last step has no noise, the code divides by it, and every number is
# NaN; and `source_guidance_scale` is ignored unless `guidance_scale` exceeds 1 (our tests show this one). A demonstration
# with one picture sees none of this. **Test that item $i$ does not depend on its neighbours.** It is the cheapest test
# there is.

# %% [markdown]
# ## 6. How much memory?
#
# When a network runs without gradients, memory holds its weights, what the present layer reads and writes, and what
# skip connections keep for later. The first is a product of two numbers. The rest follows from the shapes, so we can
# find it without computing anything: run the network on `meta`, write down every tensor when it is born, and cross it
# out when it dies. `minidiff.ledger` does this in a dozen lines, which PyTorch calls at each operation.


# %%
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, SlicedAttnProcessor
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from minidiff.ledger import Ledger

ATTENTION = {"fused": AttnProcessor2_0, "plain": AttnProcessor, "slices": partial(SlicedAttnProcessor, 1)}


def ready(network, attention):
    """What to call, a U-Net or the decoder of an autoencoder, with its attention computed in this way."""
    network.set_attn_processor(ATTENTION[attention]())
    return getattr(network, "decode", network)


@torch.no_grad()
def predicted(network, shapes, attention="fused"):
    """Bytes at the peak for inputs of these shapes, without weights. A fused kernel never writes its matrix down."""
    only_shape = patch.object(functional, "scaled_dot_product_attention", lambda q, k, v, **_: torch.empty_like(q))
    inputs = [torch.empty(shape, device="meta") for shape in shapes]
    with only_shape, Ledger() as ledger:
        ready(network, attention)(*inputs)
    return ledger.peak


@torch.no_grad()
def measured(network, shapes, attention="fused"):
    """The same while the network really runs, by the diary of PyTorch's allocator."""
    inputs = [torch.randn(shape) for shape in shapes]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as diary:
        ready(network, attention)(*inputs)
    events = sorted(diary.events(), key=lambda event: event.time_range.end)
    return max(accumulate(event.self_cpu_memory_usage for event in events))


# %% [markdown]
# The first function never sees a weight, the second runs the network. On the tiny pipeline they must agree.

# %%
with torch.device("meta"):
    paper_unet, paper_vae, _ = networks(**SMALL)
asked = [("U-Net", paper_unet, tiny_unet, [(2, 4, 32, 32), (2,), (2, 12, 16)], kind) for kind in ATTENTION]
for name, paper, real, shapes, kind in [*asked, ("decoder", paper_vae, tiny_vae, [(2, 4, 16, 16)], "fused")]:
    guess, found = predicted(paper, shapes, kind), measured(real, shapes, kind)
    print(f"{name:8} {kind:7} predicted {guess / 2**20:6.2f} MiB   measured {found / 2**20:6.2f} MiB")
    assert abs(guess / found - 1) < 0.15

# %% [markdown]
# So the function may speak of networks that this machine could not hold. Three numbers explain the table below. A
# weight takes 4 bytes, or 2 in half precision. Plain attention between $N$ positions keeps $2 B h N^2$ numbers, a matrix
# and its softmax, for a batch $B$ and $h = 8$ heads. And guidance doubles $B$. For one guided picture at $N = 4096$ that
# makes 1 GiB in half precision.


# %%
@cache
def on_paper(part, side, attention="fused"):
    """Bytes at the peak for one item in float32: denoiser or decoder of Stable Diffusion 1, latents of this side."""
    shapes = [(1, 4, side, side), (1,), (1, 77, 768)]
    return predicted(*((unet, shapes) if part == "denoiser" else (vae, shapes[:1])), attention)


def card(pixels=512, pictures=1, dtype=torch.float16, attention="fused", offload=False):
    """GiB for guided editing: the weights, a call of the denoiser, the decoder, and what the card must hold at once."""
    unit, side = dtype.itemsize / 2**30, pixels // 8
    held = [count(network) * unit for network in (unet, vae, reader)]
    call = 2 * pictures * on_paper("denoiser", side, attention) / 4 * unit
    decoding = pictures * on_paper("decoder", side) / 4 * unit
    most = max(held[0] + call, held[1] + decoding) if offload else sum(held) + max(call, decoding)
    return {"weights": sum(held), "denoiser": call, "decoder": decoding, "card": most}


choices = {"float32, plain": {"dtype": torch.float32, "attention": "plain"}, "float32": {"dtype": torch.float32},
           "float16, plain": {"attention": "plain"}, "float16, slices": {"attention": "slices"},
           "float16": {}, "float16, offload": {"offload": True}}  # fmt: skip
cost = {name: card(**choice) for name, choice in choices.items()}
for name, row in cost.items():
    print(f"{name:17}" + "".join(f"  {part} {value:5.2f}" for part, value in row.items()), "GiB")
assert 1.1 > cost["float16, plain"]["denoiser"] > 1 > 3 * cost["float16"]["denoiser"]  # 1 GiB are the two matrices
assert cost["float16"]["card"] < 4 < cost["float32, plain"]["card"]

# %% [markdown]
# What each switch of `load_pipeline` (`--save-memory` on the command line) buys:
#
# - **`dtype=torch.float16`** halves everything. float16 overflows at 65,504; bfloat16 does not, and has eight bits.
#   minidiff keeps the sampler's states in float32 with either.
# - **`attention_slicing=True`** was the great saving of 2022. It replaces PyTorch's fused kernels (Dao et al., 2022), which
#   never write the matrix down: use it only where there are none.
# - **`cpu_offload="model"`** keeps on the card only the network that computes, `"sequential"` only the layer. You pay
#   with copies.
#
# This was checked on a processor. On a card the driver takes some hundred megabytes, and kernels borrow scratch space:
# rent by the sum, then believe `torch.cuda.max_memory_allocated()`. Training is another sum: gradient, Adam's two moments
# and an average make 20 bytes a weight instead of 4, and activations stay.
#
# ### Turn the knobs
#
# What is the largest picture that a card of 8 GiB can edit?

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from ipywidgets import HTML, Dropdown, IntSlider, VBox

knobs = {
    "pixels": IntSlider(512, min=256, max=1024, step=128, description="side", continuous_update=False),
    "pictures": IntSlider(1, min=1, max=16, description="pictures", continuous_update=False),
    "dtype": Dropdown(options={"float16": torch.float16, "float32": torch.float32}, description="type"),
    "attention": Dropdown(options=list(ATTENTION), description="attention"),
}
view = HTML()


def redraw(change=None):
    need = card(**{name: knob.value for name, knob in knobs.items()})
    bar = "<tr><td>{}</td><td><div style='background:{};height:1em;width:{:.0f}px'></div></td><td>{:.1f} GiB</td></tr>"
    rows = (bar.format(part, colour, min(20 * need[part], 600), need[part]) for part, colour in zip(need, plot.COLOURS))
    view.value = f"<table>{''.join(rows)}</table>"


for knob in knobs.values():
    knob.observe(redraw, "value")
redraw()
display(VBox([*knobs.values(), view]))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
before = view.value  # what your hand does
knobs["pixels"].value = 768
fused, knobs["attention"].value = view.value, "plain"
assert len({before, fused, view.value}) == 3
assert card(768)["card"] < 8 < card(768, dtype=torch.float32, attention="plain")["card"]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
sides = [256, 512, 768, 1024]
shown = [name for name in choices if "slices" not in name]
lines = {name: [card(side, **choices[name])["card"] for side in sides] for name in shown}
plot.curves(lines, x=sides, xlabel="side of the picture in pixels", ylabel="GiB on the card",
            alt="Memory by side of the picture for five settings: with plain attention it climbs steeply towards 1024 pixels, "
            "with fused attention far less, and half precision halves it.")  # fmt: skip

# %% [markdown]
# *The static copy. Where does each line cross 8? Plain lines grow with the fourth power of the side, fused ones with its
# square.*
#
# ## 7. Out of Python, and onto many machines
#
# **ONNX** is a file format for networks that phones, servers and browsers run. `minidiff export critters-text --onnx DIR`
# writes encoder, decoder and denoiser, compares each with PyTorch, and adds what to compute between the calls. One of
# the three by hand, if the packages are there:

# %%
from minidiff.bridges.onnx import Decoder, import_onnxruntime, to_onnx

picture = text.to_latents(cats)
try:
    runtime = import_onnxruntime()
except ImportError as missing:
    print(missing)
else:
    free = {"latents": {0: torch.export.Dim("batch", min=1)}}  # any number of pictures
    content = to_onnx(Decoder(text.autoencoder).eval(), {"latents": picture}, ["images"], free)
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"latents": picture[:1].numpy()})
    difference = worst(torch.from_numpy(found), text.to_images(picture[:1]))
    print(f"{len(content) / 2**20:.1f} MiB; onnxruntime and PyTorch differ by {difference:.0e}")
    assert difference < 1e-3

# %% [markdown]
# **More machines.** One command trains on any number of processes. They divide the batch and find the same, up to
# rounding:
#
# ```sh
# python -m minidiff.training critters-cat                      # this machine
# torchrun --nproc_per_node 4 -m minidiff.training critters-cat  # its four GPUs
# accelerate launch --multi_gpu --num_machines 2 --num_processes 16 --machine_rank 0 --main_process_ip FIRST \
#     --main_process_port 29500 --mixed_precision bf16 -m minidiff.training afhq-cat --export
# ```
#
# The place to go next is between us and Stable Diffusion: photographs of animals at 256 x 256, in the latents of its
# autoencoder, with a U-Net of 84 million weights. [The AFHQ page](../book/afhq.md) has the commands and what they cost.

# %% [markdown]
# ## 8. With real weights
#
# This is the one cell that wants real weights. It tries its function on the tiny folder, looks for one with Stable
# Diffusion 1, and says what to do if there is none. Ids vanish (the first home of version 1.5 in 2024, version 2 in
# 2025), so it knows two, each with its revision pinned.

# %%
folder = Path("stable-diffusion")
HOMES = {"stable-diffusion-v1-5/stable-diffusion-v1-5": "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
         "CompVis/stable-diffusion-v1-4": "133a221b8aa7292a167afc5127cb63fb5005638b"}  # fmt: skip


def try_edit(folder, source, target, **settings):
    """A drawn cat, the autoencoder's copy and its edit by the pipeline in a folder; and how far the round trip is off."""
    device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    half = {"variant": "fp16"} if list(Path(folder).rglob("*.fp16.safetensors")) else {}
    large = minidiff.load_pipeline(folder, device, dtype=dtype, **half)
    cat = Critters("cat", size=large.image_shape[1], seed=2)[:1].to(device)
    copy, told = large.to_images(large.to_latents(cat)), large.given(source)
    trip = worst(told.decode(told.encode(cat)), copy)
    print(f"copy {psnr(copy.clamp(-1, 1), cat).item():.1f} dB, round trip off by {trip:.0e}")
    return torch.cat([cat, copy, edit(large, cat, source, target, **settings)]).cpu(), trip


_, trip = try_edit(home / "tiny", "cat", "dog", strength=0.6, steps=5)
assert trip < 0.05  # half precision rounds what the decoder sees
if folder.is_dir():
    made, _ = try_edit(folder, "a drawing of a cat", "a drawing of a dog", strength=0.8)
    plot.grid(made, column_labels=["input", "copy", "edit"], alt="A cat, the autoencoder's copy of it, and its edit.")
else:
    print(f"No folder {folder.resolve()}. Fetch one of these, 2.1 GB, and run this cell again:")
    for name, revision in HOMES.items():
        print(f'hf download {name} --revision {revision} --local-dir {folder} --include "*.json" "*.txt" '
              '"*/*.fp16.safetensors" --exclude "safety_checker/*"')  # fmt: skip

# %% [markdown]
# The weights are under CreativeML OpenRAIL-M: you may use, change and sell them, but not for a list of harmful ends, and
# whoever gets them, or a model made from them, must be bound by the same list. Ours have no such condition:
#
# | what | licence | in a word |
# |---|---|---|
# | minidiff's code | Apache-2.0 | keep the notices |
# | our weights and lessons | CC BY 4.0 | name the source |
# | Stable Diffusion 1 | CreativeML OpenRAIL-M | use restrictions, passed on |
# | `stabilityai/sd-vae-ft-mse` | MIT | keep the notice |
# | photographs of AFHQ, and models trained on them here | CC BY-NC 4.0 | no commerce |
#
# A `LatentDiffusion` runs no safety checker. If you publish pictures, that is your task now.
#
# ## 9. What we do not know from here
#
# Random weights prove identities. They say nothing about quality, and neither do drawn cats. Before you claim for
# Stable Diffusion what lessons 9 to 11 showed for Critters, check:
#
# 1. **The autoencoder on your photographs.** Small faces and letters suffer before any editing begins. Report the PSNR
#    of `to_images(to_latents(x))` first.
# 2. **Repeatability,** with your kernels and your dtype, as in section 4.
# 3. **Strength, scale and $\eta$,** on pictures that you do not report.
# 4. **The truth.** There is none now. CLIP's directional score and closeness to the source trade off: show both, at
#    several strengths, never the best of many by the score that you report (lesson 10).
# 5. **The caption.** CLIP reads 77 tokens. minidiff refuses a longer caption, diffusers cuts it.
# 6. **The common latent space.** Two prompts share one network. Two fine-tuned models are a hypothesis again.
# 7. **Time.** Grids of settings become days. `Search` in `minidiff.candidates` says what it costs before it runs.
#
# ## Summary
#
# 1. Stable Diffusion is our machine with larger numbers. The words differ in nine places, and a test on a table or a
#    picture finds each.
# 2. What was proved for any weights holds there: exact round trips, identity under equal words, independence of the
#    batch. Exactness needs a network that repeats itself, not one that is precise.
# 3. A schedule that is right for 64 latents may be wrong for 4,096: the spread of brightness shrinks by a closed
#    formula.
# 4. Memory follows from shapes. Half precision halves it, fused attention takes away its fourth power.
# 5. Quality does not follow from anything here. It has to be measured again.
#
# ## Three open questions
#
# - If you draw starts from what encoded photographs have there, do samples become as dark and as bright as photographs?
# - How much does a change of kernels move a *trained* network's round trip, and does it grow with guidance?
# - Which of the seven checks could be made on the AFHQ models, before anyone pays for the larger ones?
#
# ## References
#
# - R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer. *High-resolution image synthesis with latent diffusion
#   models.* CVPR 2022, arXiv 2112.10752.
# - C. H. Wu, F. De la Torre. *A latent space of stochastic diffusion models for zero-shot image editing and guidance.*
#   ICCV 2023, arXiv 2210.05559.
# - S. Lin, B. Liu, J. Li, X. Yang. *Common diffusion noise schedules and sample steps are flawed.* WACV 2024, arXiv
#   2305.08891.
# - I. Huberman-Spiegelglas, V. Kulikov, T. Michaeli. *An edit friendly DDPM noise space: inversion and manipulations.*
#   CVPR 2024, arXiv 2304.06140.
# - A. Hertz, R. Mokady, J. Tenenbaum, K. Aberman, Y. Pritch, D. Cohen-Or. *Prompt-to-prompt image editing with cross
#   attention control.* ICLR 2023, arXiv 2208.01626.
# - T. Dao, D. Y. Fu, S. Ermon, A. Rudra, C. Re. *FlashAttention: fast and memory-efficient exact attention with
#   IO-awareness.* NeurIPS 2022, arXiv 2205.14135.
# - W. Zhao, L. Bai, Y. Rao, J. Zhou, J. Lu. *UniPC: a unified predictor-corrector framework for fast sampling of
#   diffusion models.* NeurIPS 2023, arXiv 2302.04867.
# - J. Ho, T. Salimans. *Classifier-free diffusion guidance.* 2022, arXiv 2207.12598.
# - Y. Choi, Y. Uh, J. Yoo, J.-W. Ha. *StarGAN v2: diverse image synthesis for multiple domains.* CVPR 2020, arXiv
#   1912.01865.
#
# *This lesson is licensed under CC BY 4.0.*
