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
# # 0. Start here
#
# **What can two models do together that never saw each other's pictures?**
#
# One network has learned to draw cats. Another, trained apart, has learned to draw dogs. Nobody ever told them which
# cat belongs to which dog. In a minute they will turn your cat into the matching dog. How that is possible is the
# subject of this course. Here you check that everything works, see the result, and find your way around.
#
# ```{tip}
# **After this lesson you can**
# 1. say whether your installation is complete;
# 2. sample pictures, and translate a drawn cat into a dog, in five lines;
# 3. say what `images`, `latents` and `code` are, and where in the package each is made.
#
# **Needs** nothing but a little Python. **Read** 10 minutes. **Run** under half a minute on two cores, under 2 GB.
# **Checkpoints** `critters-autoencoder`, `critters-cat`, `critters-dog`, `critters-probe`.
# ```
#
# ## 1. Is everything here?
#
# Click into the cell below and press Shift and Enter together. Each line is one check. A *note* can be ignored for now;
# a *FAULT* says what to do.

# %%
import importlib
import time

import ipywidgets as widgets
import torch

import minidiff
from minidiff import doctor, plot
from minidiff.cycle import translate
from minidiff.data.critters import Critters, render

found = []
for check in doctor.checks():
    print(check)
    found.append(check)
assert doctor.healthy(found)

# %% [markdown]
# ## 2. The first picture
#
# Load a model and sample. The seeds 0, 1, 2, ... decide the pictures: picture 3 is the same whether you ask for four or
# for four hundred.

# %%
begin = time.perf_counter()
cat = minidiff.load("critters-cat")
cats = cat.sample(8, seeds=0)
print(f"{len(cats)} cats in {time.perf_counter() - begin:.1f} s, loading included")
alt = "Eight sampled faces of cats in various colours, each on a plain background."
plot.grid(cats, alt=alt)

assert cats.shape == (8, 3, 64, 64)
assert torch.allclose(cat.sample(2, seeds=3), cats[3:5], atol=1e-3)

# %% [markdown]
# *None of these cats existed before. Look for what they have in common: one world, many coats, places and moods.*
#
# The world is called **Critters**. It is drawn by a program, so it never runs out, and everything about each picture is
# known: species, place, size, tilt, coat, gaze, glasses. That is more than any photo album can offer, and it is why the
# course can check its claims. Real photographs (shoes, from lesson 4 on) stand beside it.
#
# ## 3. From cats to dogs
#
# Take six cats that no model was trained on. First the obvious thing, and it is wrong: ask the dog model for dogs. They
# are fine dogs, but they are not *these* animals. Then CycleDiffusion: the cat model finds the **code** of each
# picture, the standard normal noise from which it would have drawn exactly this cat. The dog model decodes the same
# code.
#
# $$\text{dog} = \text{decode}_\text{dog}\big(\text{encode}_\text{cat}(\text{cat})\big)$$
#
# Because the world is drawn, there is a right answer too: the same factors, drawn as a dog.

# %%
dog = minidiff.load("critters-dog")
world = Critters("cat", seed=2)
cats = world[:6]
code = cat.encode(cats)
strangers = dog.sample(6)
dogs = translate(cat, dog, cats)
truth = render(world.factors(slice(6)).replace(species="dog"))

back = cat.decode(code)
print("shape of a picture, of its latents, of its code:", tuple(cats[0].shape), cat.latent_shape, cat.code_shape)
print(
    "decoding gives back what the autoencoder kept, up to",
    (back - cat.to_images(cat.to_latents(cats))).abs().max().item(),
)
assert torch.allclose(back, cat.to_images(cat.to_latents(cats)), atol=1e-3)
assert torch.allclose(dogs, dog.decode(code), atol=1e-3)  # this is all that translate does

rows = {"cats": cats, "any dogs": strangers, "their dogs": dogs, "true dogs": truth}
alt = "Four rows: six cats; six unrelated dogs; six dogs in the cats' colours; the same six drawn as dogs."
plot.grid(list(rows.values()), row_labels=list(rows), alt=alt)

# %% [markdown]
# *Compare the third row with the first, and then with the fourth. Look for what came along and for what got lost.*
#
# Looking is good, measuring is better. A *probe* is a small network that reads the factors back from a picture. Let it
# read 32 translations, and compare them with the cats they came from.

# %%
probe = minidiff.load("critters-probe")
sources = world[:24]
answers = probe.read(translate(cat, dog, sources).clamp(-1, 1))
factors = world.factors(slice(24))


def agreement(name):
    """Correlation of what the probe reads in the dogs with what the cats had, over 24 pairs."""
    read, had = answers[name].double().flatten(), getattr(factors, name).double().flatten()
    return torch.corrcoef(torch.stack([read, had]))[0, 1].item()


share = (answers["species"] == 1).double().mean().item()
kept = {name: round(agreement(name), 2) for name in ("background", "coat", "x", "y")}
print(f"read as dogs: {100 * share:.0f} %; agreement with the cats: {kept}")
assert share >= 0.9 and kept["background"] >= 0.9 and kept["coat"] >= 0.7
assert kept["background"] > max(kept["x"], kept["y"])  # place is harder

# %% [markdown]
# Background and coat come along. The place in the picture (x, y) does so less: at full strength a code does not carry
# everything. What it carries, and how the method compares with its rivals, is the subject of lesson 10.
#
# ## 4. How much of the cat?
#
# One number decides how far back into the noise a picture is sent before the other model takes over: **strength**,
# between 0 and 1. With little strength, little changes. With full strength, everything may. Move the slider.
# Below it stand the same pictures without a slider.

# %%
slider = widgets.FloatSlider(value=0.8, min=0.2, max=1.0, step=0.1, description="strength", continuous_update=False)
canvas = widgets.HTML()


def redraw(change):
    with torch.inference_mode():
        dogs = translate(cat, dog, cats[:4], strength=change["new"], steps=20)
    alt = f"Four cats, and below them what strength {change['new']:.1f} makes of each."
    canvas.value = plot.grid([cats[:4], dogs], row_labels=["cats", "translated"], alt=alt, display=False).html


slider.observe(redraw, names="value")
redraw({"new": slider.value})
first, slider.value = canvas.value, 0.4  # what your hand does
assert canvas.value != first and "strength 0.4" in canvas.value
widgets.VBox([slider, canvas])

# %%
strengths = [0.2, 0.4, 0.6, 0.8, 1.0]
changed = [translate(cat, dog, cats[:3], strength=strength, steps=20) for strength in strengths]
moved = [(pictures - cats[:3]).square().mean().item() for pictures in changed]
print("mean squared change:", [round(value, 3) for value in moved])
assert moved[0] < 0.7 * moved[-1]

labels = ["cat"] + [f"{strength}" for strength in strengths]
alt = "Three cats, each translated with five strengths: the pointed ears fade at 0.2, and at 1.0 dogs look at you."
plot.grid([torch.stack(row) for row in zip(cats, *changed)], column_labels=labels, alt=alt)

# %% [markdown]
# *Read each row from left to right. Look for the strength at which the pointed ears go.*
#
# ## 5. The map
#
# Three words carry the course. **Images** are pictures, numbers in [-1, 1]. **Latents** are what an autoencoder makes
# of them: 24 times fewer numbers, with most of the picture still in them. A **code** is everything random that a model
# uses to make a picture: standard normal numbers, and nothing else. Sampling, translating, editing and guiding are all
# things you do with codes.
#
# | lesson | question |
# |---|---|
# | 0 | what is here? |
# | 1 | what is a latent? |
# | 2 | how small can a picture become? |
# | 3 | what does a bit buy? |
# | 4 | how does one turn noise into latents? |
# | 5 | what is inside the network, and how is it told what to draw? |
# | 6 | how does one ask a model to listen? |
# | 7 | how few steps are enough? |
# | 8 | where does a picture live in the space of codes? |
# | 9 | how do you find the code of a real picture, exactly? |
# | 10 | what does another model make of the same code? |
# | 11 | how do you ask for what no model was told? |
# | 12 | what can each model reach? |
# | 13 | what changes when the model is two hundred times larger? |
#
# If you only have an hour: 4, 9, 10, in this order.
#
# The package reads in the same direction. Nothing in a row needs anything from a row below it.

# %%
rooms = {
    "data": "Critters, Fashion-MNIST, your own folder of pictures",
    "nets": "the autoencoder, the U-Net, the probe",
    "schedule": "how much noise at which time",
    "denoiser": "what a network says about a noisy picture; ideal.py is the one that is always right",
    "samplers": "a step is a Gaussian; one loop runs them all",
    "encoder": "from a picture to its code",
    "generators": "a model as a map: decode, encode, sample",
    "cycle": "translate, and the rivals it is compared with",
    "conditioning": "captions, labels and pictures that a model can be told",
    "edit": "change a picture by changing its caption",
    "energies": "how little a picture is as wished; guide.py follows them",
    "training": "how the shipped models came to be: minidiff train NAME",
    "zoo": "load a model, after its fingerprint was checked",
}
for name, what in rooms.items():
    assert importlib.import_module(f"minidiff.{name}").__doc__
    print(f"minidiff.{name:12} {what}")
assert all(entry["parameters"] < 5e6 for entry in minidiff.zoo.manifest().values())

# %% [markdown]
# ## 6. How the lessons work
#
# Each lesson asks one question and shows a picture of the answer. Then it goes wrong on purpose, because a fault that
# you have seen is a fault that you recognise. Then comes the smallest case that can be computed by hand, then the real
# thing: written in the notebook, compared with the package, tried on the shipped models. Near the end one slider and a
# row of broken results; last, three questions that nobody answers for you.
#
# - **Every claim is checked.** A line that starts with `assert` stops the notebook if the claim does not hold. Change
#   numbers, and see which claims break. That is the best use of this course.
# - **Nothing waits for training.** All models are here, with less than 5 million weights each. `minidiff train NAME`
#   makes them again.
# - **Nothing is downloaded.** No account, no GPU.
#
# ```{dropdown} Something does not work
# Run `minidiff doctor` in a terminal: it says the same as section 1. A picture that does not appear, a slider that does
# not move: choose *Run*, then *Restart kernel and run all cells*. To undo your changes to a lesson, use `git checkout
# lessons`.
# ```
#
# ## Open questions
#
# 1. The two models share the world's colours and places, but not a single picture. What else must they share, so that
#    the same code means the same thing to both? What would you change to break it?
# 2. The true dog is *one* right answer. Are there others? What would a fair score for a translation measure?
# 3. A cat with glasses becomes a dog. Should the glasses stay? Which model would have to know about glasses?
#
# ## References
#
# - C. H. Wu, F. De la Torre. *A Latent Space of Stochastic Diffusion Models for Zero-Shot Image Editing and Guidance.*
#   ICCV 2023. Preprint: *Unifying Diffusion Models' Latent Space, with Applications to CycleDiffusion and Guidance*,
#   arXiv:2210.05559.
# - R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer. *High-Resolution Image Synthesis with Latent Diffusion
#   Models.* CVPR 2022. arXiv:2112.10752.
#
# *This lesson is licensed under CC BY 4.0.*
