# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,nbgrader,-all
#     formats: lessons//py:percent,build/notebooks//ipynb
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
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
# # 09 · DPM-Encoder: the exact code of a real picture
#
# *Text, figures and exercises: CC BY 4.0. Code: Apache 2.0.*
#
# A diffusion model turns a code of standard normal numbers into a picture, and the same code always gives the same picture.
# But your cat was photographed, not generated. **How do you find the code $z$ of a real picture, exactly, when the sampler
# draws fresh noise at every step?**
#
# :::{tip} At a glance
# **After this lesson you can**
# 1. derive DPM-Encoder in one line and prove that decoding undoes it for *any* network;
# 2. predict how large the noises in a code are, and check the prediction to a few per cent;
# 3. say which part of a code holds which part of a picture, and how `eta`, `strength` and the path change that.
#
# **Needs** lesson 04 (diffusion in latents). **Time** 35 minutes to read, under a minute to run, below 2 GB of memory.
# **Models** `critters-cat`, `critters-dog`, `fashion-sneaker` and their autoencoders, all shipped.
# :::

# %%
import math

import ipywidgets as widgets
import torch
from torch.nn import functional as F

import minidiff
from minidiff.codes import code_statistics
from minidiff.data.critters import Critters
from minidiff.data.fashion import FashionMNIST
from minidiff.denoiser import Denoiser
from minidiff.encoder import ddim_invert, dpm_encode
from minidiff.evaluation.metrics import psnr
from minidiff.ideal import IdealDenoiser
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.plot import curves, grid
from minidiff.samplers import DDIM, decode_code, sampling
from minidiff.schedule import Step, linear, step_grid
from minidiff.seeds import normal

torch.set_grad_enabled(False)
cat, shoe = minidiff.load("critters-cat"), minidiff.load("fashion-sneaker")
cats = Critters("cat", seed=2)[[0, 1, 2, 3]]  # (4, 3, 64, 64), pictures no model was trained on
shoes = FashionMNIST("subset", "sneaker")[[0, 1, 2, 3]]  # (4, 1, 32, 32), real photographs
latents, shoe_latents = cat.to_latents(cats), shoe.to_latents(shoes)
code, shoe_code = cat.encode(cats), shoe.encode(shoes)  # the whole lesson in two calls


def panel(x):
    """Pictures or blocks (B, c, h, w) as (B, 3, 64, 64): grey stays grey, of many channels you see the first three."""
    x = x[:, :3] if x.shape[1] >= 3 else x[:, :1].expand(-1, 3, -1, -1)
    return F.interpolate(x, size=64)


# %% tags=["hide-input"]
def row_of(model, images, code):
    blocks = [panel(code[:1, k] / 3) for k in (0, 15, 30, 45, 50)]
    return torch.cat([panel(images[:1]), *blocks, panel(model.decode(code[:1]))])


grid(
    [row_of(cat, cats, code), row_of(shoe, shoes, shoe_code)],
    column_labels=["picture", "block 0", "block 15", "block 30", "block 45", "residual", "decoded"],
    alt="Two rows, a drawn cat and a photographed sneaker. Each row: the picture, five blocks of its code that look like "
    "coloured noise, the last one much fainter, and the decoded code, which shows the picture again.",
)
error = (cat.decode_latents(code) - latents).abs().max()
shoe_error = (shoe.decode_latents(shoe_code) - shoe_latents).abs().max()
print(f"code of one cat: {tuple(code.shape[1:])}; round trip error {error:.0e} (cats), {shoe_error:.0e} (shoes)")
assert max(error, shoe_error) <= 1e-5 and code.shape[1:] == (51, 8, 8, 8)

# %% [markdown]
# *What to look for: nothing in the first blocks gives the cat away, and yet the last column is the cat. The difference
# between the latents that went in and those that came out is the rounding of 32-bit numbers.*
#
# One thing this figure does not promise. The models work in the **latents** of an autoencoder. The code gives the latents
# back exactly; the pixels then come from the autoencoder's decoder, which has an error of its own. From here on "the
# picture" means its latents.
#
# ## Notation
#
# | symbol | meaning | in code, with shape |
# |---|---|---|
# | $x_0$ | the picture (its latents) | `latents` (B, 8, 8, 8) |
# | $\bar\alpha_t$ | signal power left at noise level $t$: $x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon$ | `abar` (1000,) |
# | $t \to s$ | one step of the sampler, from a noisier level to a cleaner one | `Step(t, s)` |
# | $\mu,\ \sigma$ | mean and standard deviation of that step | `mean` (B, 8, 8, 8), `std` a float |
# | $z$ | the code: $x_T$, then one noise block for each step | `code` (B, 51, 8, 8, 8) |
# | $\eta$ | how much noise a step draws: 0 none, 1 as much as DDPM | `eta` |
#
# Level $s=-1$ stands for clean data, with $\bar\alpha_{-1}=1$. The `strength` of an edit comes in section 8.
#
# ## 1. Wrong first
#
# A sampler with $\eta>0$ makes each step by
#
# $$x_s = \mu_\theta(x_t) + \sigma\, z_t, \qquad z_t \sim N(0, I). \tag{1}$$
#
# All $z_t$ together with $x_T$ are the code. Given the code, nothing is random any more: the model is a deterministic map,
# and the code has 51 blocks where the picture has one. So many codes lead to the same picture, and you need one of them.
#
# **First attempt.** Noise the picture up to $x_T$, keep that, and draw the rest.

# %%
lazy = cat.random_code(len(cats), seeds=50)
lazy[:, 0] = code[:, 0]  # x_T of the real cats; all later noises are new
again, wrong = cat.decode(code), cat.decode(lazy)
grid(
    [cats, wrong, again],
    row_labels=["picture", "x_T kept, rest drawn", "whole code"],
    alt="Four cats in three rows. With only x_T kept the second row shows different cats; with the whole code the third "
    "row shows the same cats as the first.",
)
kept = cat.denoiser.schedule.abar_at(999) ** 0.5
print(f"x_T keeps {kept:.1%} of the picture's amplitude; PSNR to the picture: ", end="")
print(f"{psnr(wrong, cats).mean():.1f} dB with x_T alone, {psnr(again, cats).mean():.1f} dB with the whole code")
assert kept < 0.01 and psnr(again, cats).mean() > psnr(wrong, cats).mean() + 8

# %% [markdown]
# *What to look for: valid cats, but not these cats.* The start state has almost forgotten the picture. What made it this
# cat was decided in the later noises.
#
# **Second attempt.** Set $\eta=0$. Then no step draws noise, and $x_T$ is the whole code. Run the steps backwards:
# $x_s \to x_t$ needs the noise that the network sees in $x_t$, and $x_t$ is what you are looking for. *DDIM inversion* asks
# the network about $x_s$ instead and hopes that the answer is about the same. A *fixed-point iteration* then asks again, at
# the $x_t$ just found.

# %%
def inversion_error(steps, looks):
    ode = cat.replace(eta=0.0, steps=steps)
    start = ddim_invert(ode.denoiser, ode.sampler, ode.grid, latents[:2], fixed_point_iters=looks)
    return (ode.decode_latents(start) - latents[:2]).square().mean().sqrt().item()


steps = [10, 20, 40]
errors = {looks: [inversion_error(n, looks) for n in steps] for looks in (0, 1)}
dpm_errors = [(cat.decode_latents(code) - latents).square().mean().sqrt().item()] * 3
curves(
    {"DDIM inversion": errors[0], "with one fixed-point iteration": errors[1], "DPM-Encoder (eta 0.1)": dpm_errors},
    x=steps, xlabel="steps of the sampler", ylabel="RMS error of the latents", logy=True,
    alt="Round trip error against the number of steps. DDIM inversion falls slowly, with a fixed-point iteration it lies "
    "lower, and DPM-Encoder lies at rounding level for any number of steps.",
)  # fmt: skip
for looks, row in errors.items():
    print(f"{looks} fixed-point iterations:", "  ".join(f"{n} steps {e:.4f}" for n, e in zip(steps, row)))
assert errors[0][0] > errors[0][1] > errors[0][2] > 1e-3 and errors[1][2] < errors[0][2] and dpm_errors[0] < 1e-6

# %% [markdown]
# *What to look for: inversion is approximate. Its error shrinks with more steps and with more looks, and never reaches the
# flat line at the bottom.* It also answers another question: it has no code for a stochastic sampler at all.
#
# ## 2. Solve for the noise
#
# Here is the whole idea of DPM-Encoder (Wu & De la Torre, 2023). In equation (1) you may know $x_t$ **and** $x_s$. Then
# only $z_t$ is unknown, and the equation is linear in it:
#
# $$z_t = \frac{x_s - \mu_\theta(x_t)}{\sigma}. \tag{2}$$
#
# So draw a noisy path $x_T, \dots, x_s, \dots, x_0$ that ends at your picture, and solve each of its steps for the noise.
#
# *Why it is exact.* The decoder starts at the $x_T$ you stored. Suppose it stands where your path stood, at $x_t$. It asks
# the same network about the same $x_t$ and gets the same mean. It adds $\sigma z_t$ and stands at $x_s$, where your path
# went next. Step by step it arrives at $x_0$. Nothing in this argument asks for a *good* network, or for a likely path.
#
# *Which path?* The true one: the forward process, seen backwards, knowing where it began. Its law
# $q(x_s \mid x_t, x_0)$ is the sampler's own step with the true noise in place of the predicted one:
#
# $$x_s = \sqrt{\bar\alpha_s}\,x_0 + \sqrt{1-\bar\alpha_s-\sigma^2}\;\epsilon^\star + \sigma\,n, \qquad
# \epsilon^\star = \frac{x_t-\sqrt{\bar\alpha_t}\,x_0}{\sqrt{1-\bar\alpha_t}}, \quad n \sim N(0,I). \tag{3}$$
#
# ## 3. One grey pixel, where all is known
#
# Let the data be one number, $x_0 \sim N(m, s^2)$. The best possible denoiser is then known in closed form, and so is the
# size of the solved noises. Put (3) into (2). The mean $\mu_\theta$ is (3) without $n$ and with the predictions
# $\hat x_0, \hat\epsilon$ in place of $x_0, \epsilon^\star$. Both pairs add up to the same $x_t$, so
# $x_0-\hat x_0 = -\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}\,(\epsilon^\star-\hat\epsilon)$, and what is left is
#
# $$z_t = n - \frac{\kappa}{\sigma}\,(\epsilon^\star - \hat\epsilon), \qquad
# \kappa = \sqrt{\bar\alpha_s\,\frac{1-\bar\alpha_t}{\bar\alpha_t}} - \sqrt{1-\bar\alpha_s-\sigma^2}. \tag{4}$$
#
# A solved noise is fresh noise plus what the denoiser did not know. For Gaussian data the unknown part has a known
# variance, and therefore
#
# $$\operatorname{Var} z_t = 1 + \Big(\frac{\kappa}{\sigma}\Big)^2 \frac{\bar\alpha_t s^2}{\bar\alpha_t s^2+1-\bar\alpha_t}. \tag{5}$$

# %%
schedule, m, s = linear(), 0.7, 0.5
ideal = IdealDenoiser(schedule, torch.full((1, 1, 1), m), std=s)
numbers, grid50 = ideal.sample(5000), step_grid(schedule.T, 50)  # (5000, 1, 1, 1) in float64


def predicted_std(eta, step):
    """The square root of equation (5)."""
    abar_t, abar_s = schedule.abar_at(step.t), schedule.abar_at(step.s)
    std = DDIM(schedule, eta).std(step)
    kappa = math.sqrt(abar_s * (1 - abar_t) / abar_t) - math.sqrt(1 - abar_s - std**2)
    return math.sqrt(1 + (kappa / std) ** 2 * abar_t * s**2 / (abar_t * s**2 + 1 - abar_t))


lines, toy = {}, {}
for eta in (0.1, 0.5, 1.0):
    theory = torch.tensor([predicted_std(eta, step) for step in grid50[:-1]])
    toy[eta] = code_statistics(dpm_encode(ideal, DDIM(schedule, eta), grid50, numbers, seeds=10_000))
    seen = toy[eta].std[1:-1]  # without x_T and the residual
    lines |= {f"eta {eta}, equation 5": theory, f"eta {eta}, 5000 codes": (seen)}
    print(f"eta {eta}: step 1 {seen[0]:.2f}, step 25 {seen[24]:.2f}, step 49 {seen[-1]:.2f} = {seen[-1] * eta:.2f} / eta")
    assert (seen / theory - 1).abs().max() < 5 / math.sqrt(2 * 5000)
curves(
    lines, xlabel="step (left: noise, right: picture)", ylabel="std of the solved noise", logy=True,
    alt="Standard deviation of the solved noise against the step for eta 0.1, 0.5 and 1. Formula and measurement "
    "coincide. All start at 1; towards the last step they rise, to about 10 for eta 0.1 and to below 2 for eta 1.",
)  # fmt: skip
assert (toy[1.0].std[1:41] - 1).abs().max() < 0.1 and 8 < toy[0.1].std[49] < 12

# %% [markdown]
# *What to look for: every measured curve lies on its formula. Far from the picture the noises are standard normal. Near the
# picture they are not, and less so the smaller $\eta$ is.*
#
# You can read off why. At high noise the picture is all but invisible, the best guess is nearly the truth about
# $\epsilon$, and $z_t$ is just $n$. Near the picture the noise is faint and cannot be told from the picture's own texture;
# the miss $\epsilon^\star-\hat\epsilon$ has nearly unit size, and it is divided by a small $\sigma \propto \eta$. For small
# $\eta$, with $\rho=(1-\bar\alpha_t)/(1-\bar\alpha_s)$,
#
# $$\operatorname{std} z_t \;\approx\; \frac1\eta \sqrt{\rho\,\frac{\sqrt\rho-1}{\sqrt\rho+1}}. \tag{6}$$
#
# Only the ratio of two noise powers counts. The latent-space sampler published with the paper takes its last step from
# $t=1$ to $t=0$ and puts the clean picture there, although $\bar\alpha_0<1$. The same algebra gives $\rho/(\eta\sqrt{\rho-1})$
# for that step: a famous "about $2/\eta$", which is a property of that grid and not of DPM-Encoder.

# %%
ratio = (1 - schedule.abar_at(19)) ** -1 * (1 - schedule.abar_at(39))
ours = math.sqrt(ratio * (math.sqrt(ratio) - 1) / (math.sqrt(ratio) + 1))
ratio = (1 - schedule.abar_at(1)) / (1 - schedule.abar_at(0))
theirs = ratio / math.sqrt(ratio - 1)
last = Step(1, 0)  # to a level that is nearly clean, where the clean picture is put
x_t = schedule.add_noise(numbers, normal(torch.arange(5000), (1, 1, 1), "toy", torch.float64), 1)
mean, std = DDIM(schedule, 0.1).transition(x_t, ideal(x_t, 1), last)
measured = ((numbers - mean) / std).std() * 0.1
print(f"last noisy step of our grid: {ours:.2f} / eta; step 1 -> 0 holding x_0: {theirs:.2f} / eta, measured {measured:.2f} / eta")
assert abs(toy[0.1].std[49] * 0.1 / ours - 1) < 0.05 and abs(measured / theirs - 1) < 0.05 and 1.9 < theirs < 2.1

# %% [markdown]
# ## 4. From scratch
#
# Three functions. `gaussian` is one step of DDIM as somebody sees it who believes in some $x_0$ and $\epsilon$. The encoder
# calls it twice: with the truth, to draw where the path goes, and with the network's belief, to solve for the noise.

# %%
def at(abar, t):
    return 1.0 if t == -1 else abar[t].item()


def gaussian(abar, eta, step, x0, eps):
    """The Gaussian of x_s for somebody who believes that x_t is made of x0 and eps: (mean, std)."""
    abar_t, abar_s = at(abar, step.t), at(abar, step.s)
    std = eta * math.sqrt((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s))
    return math.sqrt(abar_s) * x0 + math.sqrt(1 - abar_s - std**2) * eps, std


def encode(denoiser, abar, eta, steps, x0, seed, corrected=True):
    """x0 (B, C, H, W) -> code (B, len(steps) + 1, C, H, W)."""
    seeds = seed + torch.arange(len(x0))
    fresh = (normal(seeds, x0.shape[1:], f"path {k}", x0.dtype) for k in range(len(steps) + 1))
    top = at(abar, steps[0].t)
    x = math.sqrt(top) * x0 + math.sqrt(1 - top) * next(fresh)
    blocks = [x]
    for step in steps:
        # Where does the path of this picture go next? We know x0, so we know the true noise: equation 3.
        abar_t = at(abar, step.t)
        true_eps = (x - math.sqrt(abar_t) * x0) / math.sqrt(1 - abar_t)
        mean, std = gaussian(abar, eta, step, x0, true_eps)
        x_s = mean + std * next(fresh)
        # Which noise takes the sampler, which sees only x_t, to the same place? Equation 2.
        mean, std = gaussian(abar, eta, step, *denoiser(x, step.t))
        blocks.append((x_s - mean) / (std or 1))
        # Go on from where the decoder will be, which differs from x_s by a rounding.
        x = mean + (std or 1) * blocks[-1] if corrected else x_s
    return torch.stack(blocks, dim=1)


def decode(denoiser, abar, eta, steps, code):
    """code (B, len(steps) + 1, C, H, W) -> x0 (B, C, H, W): equation 1."""
    x, *noises = code.unbind(1)
    for step, noise in zip(steps, noises, strict=True):
        mean, std = gaussian(abar, eta, step, *denoiser(x, step.t))
        x = mean + (std or 1) * noise
    return x


abar, x0 = schedule.abar, latents[:2].double()
steps20 = step_grid(1000, 20)
ours = encode(cat.denoiser, abar, 0.5, steps20, x0, seed=7)
package = dpm_encode(cat.denoiser, DDIM(schedule, 0.5), steps20, x0, seeds=7)
assert (ours - package).abs().max() <= 1e-12
assert (decode(cat.denoiser, abar, 0.5, steps20, ours) - decode_code(cat.denoiser, DDIM(schedule, 0.5), steps20, ours)).abs().max() <= 1e-12
print("The notebook's encoder and decoder agree with minidiff's to 1e-12.")

# %% [markdown]
# `minidiff.encoder.dpm_encode` is the same loop for any sampler whose step is a Gaussian. From here on you may use it.
#
# ## 5. Exact, whatever the network
#
# The proof did not mention training. So take a network that nobody trained, fill it with noise, and measure the round
# trip. Do it for small and large $\eta$, in 64 and in 32 bits.

# %%
torch.manual_seed(0)
untrained = UNet(UNetConfig(in_channels=8, channels=(32, 32), attention=(False, False)))
torch.nn.init.normal_(untrained.last.weight, std=0.1)  # a new U-Net answers 0 to everything: make it say something
nonsense = Denoiser(untrained, schedule)

print("largest round trip error     eta 0.01   eta 0.1   eta 0.5     eta 1")
for name, denoiser in (("untrained", nonsense), ("trained", cat.denoiser)):
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        x, worst = latents[:2].to(dtype), []
        for eta in (0.01, 0.1, 0.5, 1.0):
            sampler = DDIM(schedule, eta)
            z = dpm_encode(denoiser, sampler, steps20, x)
            worst.append((decode_code(denoiser, sampler, steps20, z) - x).abs().max().item())
        print(f"{name:10} {str(dtype)[6:]:12}" + "".join(f"{e:10.0e}" for e in worst))
        assert max(worst) <= bound

# %% [markdown]
# The untrained network "sees" rubbish at every step, and the noises are large to make up for it. The sum is right all the
# same. Two details make it right to the last digits.
#
# **The correction.** In floating point, $\mu + \sigma\,\frac{x_s-\mu}{\sigma}$ is not quite $x_s$. If the encoder goes on
# from $x_s$, the decoder is off by a rounding, its network answers slightly differently, and the gap grows along the
# chain. If the encoder goes on from $\mu+\sigma z_t$ instead, both stand on the same numbers at every step. Only the rounding of the very last
# addition remains. In 16 bits the difference is plain to see.
#
# **The residual.** The last step lands on clean data. There $\sigma=0$: no noise is drawn, and (2) would divide by zero.
# Yet the network's last guess $\hat x_0$ is not your picture. minidiff keeps what is missing, $x_0-\mu$, in the last block.
# Without it the picture comes back as the network would have finished it. Section 3 tells how far off that is for an ideal
# denoiser: about $\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$, the noise of the last level.

# %%
x = latents[:2].half()
half_errors = {}
for corrected in (True, False):
    z = encode(cat.denoiser, abar, 0.1, steps20, x, seed=0, corrected=corrected)
    half_errors[corrected] = (decode(cat.denoiser, abar, 0.1, steps20, z) - x).abs().max().item()
print(f"float16 path: error {half_errors[True]:.5f} corrected, {half_errors[False]:.5f} uncorrected")
assert half_errors[True] < 0.003 and half_errors[False] > 3 * half_errors[True]

dropped = code.clone()
dropped[:, -1] = 0
without = (cat.decode_latents(dropped) - latents).square().mean().sqrt()
last_noise = math.sqrt(1 / schedule.abar_at(19) - 1)
print(f"without the residual: RMS error {without:.3f}; noise of the last level: {last_noise:.3f}")
assert 0.3 * last_noise < without < 1.5 * last_noise

# %% [markdown]
# ## 6. Any path will do, but not any path is good
#
# Exactness holds for every path that ends at $x_0$. *Edit-friendly* inversion (Huberman-Spiegelglas et al., 2024) uses this
# freedom. It draws every $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,n_t$ with an **independent** $n_t$. Such a
# path jumps. The solved noises have to make the jumps: each pulls to the next random state and away from the last one. So
# $\sigma z_t$ is roughly a difference $n_s - n_t$. Differences of independent numbers have a larger spread, and neighbours
# share one number with opposite sign: their correlation is $-\tfrac12$.

# %%
spread, lag = {}, {}
for eta in (1.0, 0.1):
    for trajectory in ("posterior", "independent"):
        stats = code_statistics(cat.replace(eta=eta).encode(cats, trajectory=trajectory))
        spread[f"{trajectory}, eta {eta}"], lag[f"{trajectory}, eta {eta}"] = stats.std[1:-1], stats.lag1[1:-1]
for values, label in ((spread, "std of the solved noise"), (lag, "correlation with the next block")):
    curves(
        values, xlabel="step (left: noise, right: picture)", ylabel=label, logy=values is spread, size=(7, 2.6),
        alt=f"{label} along the code of four cats. Independent paths: large, and correlation near minus one half. Posterior "
        "paths: near 1 and uncorrelated at eta 1; at eta 0.1 both rise towards the picture.",
    )  # fmt: skip
for name in spread:
    early, late = slice(5, 20), slice(40, 47)
    print(f"{name:22} std {spread[name][early].mean():5.1f} {spread[name][late].mean():5.1f}   ", end="")
    print(f"lag-1 {lag[name][early].mean():5.2f} {lag[name][late].mean():5.2f}   (steps 5-20, 40-47)")
assert abs(lag["independent, eta 1.0"][5:40].mean() + 0.5) < 0.08 and abs(lag["posterior, eta 1.0"][5:20].mean()) < 0.1
assert spread["independent, eta 1.0"][5:40].min() > 1.8 and lag["posterior, eta 0.1"][40:47].mean() > 0.5
tenfold = spread["independent, eta 0.1"][5:40] / spread["independent, eta 1.0"][5:40]
assert (tenfold / 10 - 1).abs().max() < 0.2

# %% [markdown]
# *What to look for: the two independent curves at $-0.5$ and their size, ten times larger for a tenth of $\eta$. Then the
# posterior curve at $\eta=0.1$, which rises in both figures.*
#
# So the statistics tell how a code was made. Draws of $N(0,I)$ have standard deviation 1 and correlation 0. Posterior codes
# at $\eta=1$ come close. At $\eta=0.1$ a path keeps its noise $\epsilon^\star$ from step to step. The network misses
# the same details each time, so neighbouring late blocks repeat the same correction, blown up by $1/\eta$. Independent codes
# are far from normal everywhere.
#
# The paper calls the space of codes Gaussian, and for *sampling* it is. For *encoding* it is not: what you find is a valid code,
# not a typical one. Do not expect a code of a real picture to pass for noise, and do not "repair" it.
#
# ## 7. The codes of a drawn cat and a real shoe
#
# Equation (5) has no network in it. A trained network misses more than the ideal one, so the curve of a real model is a
# portrait of its mistakes: wherever it lies above 1, the model did not see something coming.

# %%
shoe_1 = code_statistics(shoe.replace(eta=1.0).encode(shoes)).std[1:-1]
variance = {
    "cats, eta 0.1": spread["posterior, eta 0.1"] ** 2,
    "cats, eta 1": spread["posterior, eta 1.0"] ** 2,
    "real sneakers, eta 0.1": code_statistics(shoe_code).std[1:-1] ** 2,
    "real sneakers, eta 1": shoe_1**2,
}
curves(
    variance, xlabel="step (left: noise, right: picture)", ylabel="variance of the solved noise", logy=True,
    alt="Variance of the solved noises along the code, for cats and real sneakers at eta 0.1 and 1. All begin near 1 and "
    "rise towards the picture, much more for eta 0.1.",
)  # fmt: skip
for name, values in variance.items():
    print(f"{name:24} steps 1-25: {values[:25].mean():5.2f}   last noisy step: {values[-1]:7.1f}")
    assert abs(values[:15].mean() - 1) < 0.2 and values[-1] > 1.5

# %% [markdown]
# *What to look for: all four begin at 1 and end high. The first half of the code is decided at noise levels where even a
# good model can only guess, and there the solved noises are as normal as drawn ones.*
#
# **Two seeds.** The path was drawn, so another seed gives another path and another code. Is it another picture?

# %%
other = cat.encode(cats, seeds=1000)
alike = torch.cosine_similarity(code.flatten(2), other.flatten(2), dim=2).mean(0)  # (51,), one value for each block
apart = (cat.decode_latents(other) - latents).abs().max()
print(f"same picture to {apart:.0e}; correlation of the two codes: x_T {alike[0]:.2f}, ", end="")
print(f"blocks 1-25 {alike[1:26].mean():.2f}, blocks 40-49 {alike[40:50].mean():.2f}")
assert apart <= 1e-5 and alike.abs().max() < 0.7 and alike[1:26].mean().abs() < 0.15

# %% [markdown]
# Different numbers, one picture. `encode` is therefore a *random* map and `decode` a function; the codes of one picture form a large surface in code space,
# and a seed picks a point on it.
#
# **Which blocks carry what?** Take the code of one cat and put in a group of blocks from another cat's code. Decode, and
# measure how far the result went from the first cat ($a$) to the second ($b$): the *share*
# $\langle x-a,\, b-a\rangle / \lVert b-a\rVert^2$, which is 0 at $a$ and 1 at $b$.

# %%
groups = {"start": slice(0, 1), "early": slice(1, 17), "middle": slice(17, 34), "late": slice(34, 50), "residual": slice(50, 51)}
partner = latents.roll(1, 0)  # cat i gets blocks of cat i - 1


def swap_groups(eta):
    """For each group of blocks: the latents after the swap (groups, 4, 8, 8, 8) and the mean share of each group."""
    model = cat.replace(eta=eta)
    mine = model.encode(cats)
    swapped = mine.repeat(len(groups), 1, 1, 1, 1).unflatten(0, (len(groups), 4))
    for i, blocks in enumerate(groups.values()):
        swapped[i, :, blocks] = mine.roll(1, 0)[:, blocks]
    result = model.decode_latents(swapped.flatten(0, 1)).unflatten(0, (len(groups), 4))
    way = (partner - latents).flatten(1)
    return result, ((result - latents).flatten(2) * way).sum(-1).div(way.square().sum(-1)).mean(1)


shares = {}
for eta in (0.1, 1.0):
    result, shares[eta] = swap_groups(eta)
    print(f"eta {eta}: " + "  ".join(f"{n} {v:.2f}" for n, v in zip(groups, shares[eta])) + f"  sum {shares[eta].sum():.2f}")
    grid(
        [torch.cat([cats[i : i + 1], cat.to_images(result[:, i]), cats[i - 1 : i]]) for i in (1, 2)],
        column_labels=["a", *(f"{name} of b" for name in groups), "b"],
        alt=f"Two pairs of cats a and b at eta {eta}. Between them five pictures of a with one group of blocks taken from b: "
        "early and middle groups change the animal, the residual changes nothing that can be seen.",
    )
assert shares[0.1][0] > shares[1.0][0] and shares[1.0][0] < 0.1 and max(shares[0.1][4], shares[1.0][4]) < 0.1

# %% [markdown]
# *What to look for: what changes in each column. Large things such as place and colours come with noisy levels, fur and whiskers with
# clean ones.*
#
# The first row of numbers says where the picture sits. A small $\eta$ puts more of it into $x_T$; in the limit $\eta\to0$
# the start is the whole code. With $\eta=1$ the start is forgotten, and the noises of the middle hold the picture.
# For the Gaussian pixel of section 3 the map from code to picture is a sum, and the shares add up to exactly 1. For the
# network they need not.
#
# ## 8. `strength`: how much of the picture stays a picture
#
# Nothing forces the path to start at pure noise. `strength` keeps only the cleanest part of the grid: at 0.5 the code
# begins with $x_{499}$ and has 26 blocks instead of 51. The more of the picture is left in block 0, the less another model can
# change when it decodes this code. That is the knob of lesson 10.

# %%
tops, redrawn, gap = [], [], {}
for strength in (0.2, 0.4, 0.6, 0.8):
    model = cat.replace(strength=strength)
    z = model.encode(cats[:2])
    assert (model.decode_latents(z) - latents[:2]).abs().max() <= 1e-5
    fresh = model.random_code(2, seeds=50)
    fresh[:, 0] = z[:, 0]
    tops.append(model.to_images(z[:1, 0] * 1.0))
    redrawn.append(model.decode(fresh)[:1])
    gap[strength] = (model.decode_latents(fresh) - latents[:2]).square().mean().sqrt().item()
    print(f"strength {strength}: {z.shape[1]} blocks, exact; with redrawn noises RMS error {gap[strength]:.2f}")
grid(
    [torch.cat(tops), torch.cat(redrawn)],
    row_labels=["block 0, decoded", "other noises redrawn"], column_labels=["0.2", "0.4", "0.6", "0.8"],
    alt="Block 0 at strengths 0.2 to 0.8: a cat under more and more noise. With the other noises redrawn the cat changes "
    "little at 0.2 and is another cat at 0.8.",
)  # fmt: skip
assert gap[0.2] < gap[0.4] < gap[0.8]

# %% [markdown]
# *What to look for: the first row fades into noise, and the second drifts away from the cat.* The exact code does not drift at any
# strength. It is the noises, not the start, that carry what the start has lost.
#
# ## 9. Walk along the path
#
# The slider shows one step at a time: the state $x_t$ after it, the picture that the network predicts there, and the noise
# that was solved for.

# %%
states = list(sampling(cat.denoiser, cat.sampler, cat.grid, code[:1]))
noisy = cat.to_images(torch.cat([state.x for state in states]))
guess = cat.to_images(torch.cat([state.prediction.x0 for state in states]))
solved = panel(code[0, 1:] / 3)


def frame(k):
    """The pictures of step k as PNG bytes."""
    with torch.inference_mode():
        row = torch.stack([noisy[k], guess[k], solved[k]])
    labels = ["x_s", "predicted x_0", "solved noise"]
    alt = f"Step {k + 1} of 50: the noisy state, the predicted picture and the solved noise."
    return grid(row, column_labels=labels, alt=alt, display=False).png


slider = widgets.IntSlider(value=0, min=0, max=49, description="step")
picture = widgets.Image(value=frame(0), format="png")
slider.observe(lambda change: setattr(picture, "value", frame(change["new"])), "value")
widgets.VBox([slider, picture])

# %%
before = picture.value
slider.value = 30
assert picture.value != before and picture.value[1:4] == b"PNG"
chosen = [0, 10, 20, 30, 40, 49]
grid(
    [noisy[chosen], guess[chosen], solved[chosen]],
    row_labels=["x_s", "predicted x_0", "solved noise"], column_labels=[f"step {k + 1}" for k in chosen],
    alt="Six steps of one path. The state clears from noise to a cat, the prediction turns from a blurred average cat into "
    "this cat, and the solved noise grows towards the end.",
)  # fmt: skip
away = [(state.prediction.x0 - latents[:1]).square().mean().sqrt().item() for state in states]
print("RMS of predicted x_0 - x_0:", "  ".join(f"step {k + 1}: {away[k]:.2f}" for k in chosen))
assert away[0] > 2 * away[30] > 2 * away[49]

# %% [markdown]
# *The static copy of the slider. What to look for: at the first step the prediction is an average cat, whatever the
# picture. Each solved noise pushes it a little towards this one.*
#
# ## 10. How it fails

# %%
normalised = code / code.flatten(2).std(2)[..., None, None, None]
backwards = torch.cat([code[:, :1], code[:, 1:-1].flip(1), code[:, -1:]], dim=1)
panels = {
    "exact": again[:2],
    "no residual": cat.decode(dropped[:2]),
    "scaled to std 1": cat.decode(normalised[:2]),
    "noises reversed": cat.decode(backwards[:2]),
    "decoded at eta 1": cat.replace(eta=1.0).decode(code[:2]),
    "dog model": minidiff.load("critters-dog").decode(code[:2]),
}
grid(
    [torch.stack([images[i] for images in panels.values()]) for i in (0, 1)],
    column_labels=list(panels),
    alt="Two cats decoded in six ways: exactly; without the residual, which looks almost the same; with blocks scaled to "
    "unit deviation; with noises in reverse order; with another eta; and with the dog model, which draws a dog.",
)
off = {name: (images - again[:2]).square().mean().sqrt().item() for name, images in panels.items()}
print("RMS distance to the exact picture:", "  ".join(f"{name} {value:.3f}" for name, value in off.items()))
assert off["no residual"] < 0.1 < min(off["scaled to std 1"], off["noises reversed"], off["decoded at eta 1"])

half = abar.half()  # the same schedule, kept in 16 bits
zeros = sum(at(half, t.t) / at(half, t.s) == 1 for t in step_grid(1000, 1000)[:-1])
print(f"schedule in float16: the std of {zeros} of 999 steps is 0, and equation 2 divides by it")
assert zeros > 0
for refused in (
    lambda: dpm_encode(cat.denoiser, DDIM(schedule, 0.0), steps20, latents),  # eta = 0: there is no noise to solve for
    lambda: cat.replace(steps=20).decode(code),  # another grid: the blocks do not fit
    lambda: cat.encode(cats * 2),  # not a picture in [-1, 1]
    lambda: type(schedule)("half", half),  # see above
):
    try:
        refused()
        raise AssertionError("this should have been refused")
    except ValueError as why:
        print("refused:", str(why)[:110])

# %% [markdown]
# *What to look for: a missing residual is hard to see, which is why it must be measured. The three middle failures are not
# small errors but other pictures. The last is not a failure at all.*
#
# - **Scaled to std 1.** The late blocks are large because they must be. Making them look normal throws the picture away.
# - **Another $\eta$ or another grid.** A code belongs to its sampler. A different grid has a different number of blocks and is
#   refused; a different $\eta$ fits and goes wrong in silence.
# - **The schedule in 16 bits.** Near 1 it has too few digits: neighbouring $\bar\alpha$ become equal and steps get $\sigma=0$.
#   minidiff keeps schedules in 64 bits and refuses others.
# - **Another model.** The mean changes, the noises do not, and the result is a dog with something of the cat. Lesson 10
#   makes a method of it.
#
# :::{dropdown} What would you see if you encoded at eta 0.1 and kept only every second block?
# The grid of a sampler with half the steps has 26 blocks, so the shapes fit. But each block was solved for its own step: for
# the mean that the network gave at that state, on the way to that next state. On the coarser grid the states, means and standard
# deviations are different ones. You would see a plausible cat, but not the one you encoded.
# :::
#
# ## Summary
#
# 1. A stochastic sampler is a map from codes to pictures; to encode is to solve each of its steps for the noise.
# 2. The result is exact for any network, path, $\eta>0$ and strength, if the last residual is kept and the path is
#    corrected. Training has no part in it.
# 3. A solved noise is fresh noise plus what the network missed, times $\kappa/\sigma$. For Gaussian data its size is known.
# 4. Posterior paths give nearly normal codes at $\eta=1$; independent paths give large, anticorrelated ones.
# 5. Small $\eta$ and small `strength` keep more of the picture in block 0.
#
# ## Three open questions
#
# - All codes on a picture's surface decode to the same picture with *this* model. Which of them is the best to hand to
#   *another* model, and could you find it without drawing many?
# - Late blocks repeat themselves at $\eta=0.1$. How few numbers would describe a code without losing the picture?
# - The variance curve shows where a model misses. Could you use it, without any sample, to choose the steps of a grid or to
#   tell a picture the model was trained for from one it was not?
#
# ## References
#
# - C. H. Wu, F. De la Torre. *A latent space of stochastic diffusion models for zero-shot image editing and guidance.* ICCV
#   2023; first as *Unifying diffusion models' latent space, with applications to CycleDiffusion and guidance*, arXiv 2210.05559.
# - J. Song, C. Meng, S. Ermon. *Denoising diffusion implicit models.* ICLR 2021, arXiv 2010.02502.
# - J. Ho, A. Jain, P. Abbeel. *Denoising diffusion probabilistic models.* NeurIPS 2020, arXiv 2006.11239.
# - I. Huberman-Spiegelglas, V. Kulikov, T. Michaeli. *An edit friendly DDPM noise space: inversion and manipulations.* CVPR
#   2024, arXiv 2304.06140.
# - D. Garibi, O. Patashnik, A. Voynov, H. Averbuch-Elor, D. Cohen-Or. *ReNoise: real image inversion through iterative
#   noising.* ECCV 2024, arXiv 2403.14602.
# - R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer. *High-resolution image synthesis with latent diffusion models.*
#   CVPR 2022, arXiv 2112.10752.
# - H. Xiao, K. Rasul, R. Vollgraf. *Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms.* 2017,
#   arXiv 1708.07747.
