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
# # 9. DPM-Encoder: the exact code of a real picture
#
# A diffusion model turns a code of standard normal numbers into a picture, and the same code always gives the same
# picture. But a photograph was never generated. **How do you find the code $z$ of a real picture, exactly, when the
# sampler draws fresh noise at every step?**
#
# ```{tip}
# **After this lesson you can**
# 1. derive DPM-Encoder in one line and prove that decoding undoes it for *any* network;
# 2. predict how large the noises in a code are, and check the prediction to a few per cent;
# 3. say which part of a code holds which part of a picture, and how `eta`, `strength` and the path change that.
#
# **Needs** lesson 4. **Read** 30 minutes. **Run** under a minute on two cores, under 2 GB.
# **Checkpoints** `critters-cat`, `critters-dog`, `fashion-sneaker`, and the autoencoders they live in.
# ```

# %%
import math

import ipywidgets as widgets
import torch

import minidiff
from minidiff.codes import code_statistics
from minidiff.data.critters import Critters
from minidiff.data.fashion import FashionMNIST
from minidiff.denoiser import Denoiser
from minidiff.encoder import ddim_invert, dpm_encode
from minidiff.ideal import IdealDenoiser
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.plot import curves, figure, grid, show, style
from minidiff.samplers import DDIM, decode_code, sampling
from minidiff.schedule import Schedule, Step, linear, step_grid
from minidiff.seeds import normal

torch.set_grad_enabled(False)
cat, shoe = minidiff.load("critters-cat"), minidiff.load("fashion-sneaker")
cats = Critters("cat", seed=2)[:4]  # (4, 3, 64, 64), pictures that no model was trained on
shoes = FashionMNIST("subset", "sneaker")[:4]  # (4, 1, 32, 32), real photographs
code, shoe_code = cat.encode(cats), shoe.encode(shoes)  # what this lesson is about


def panel(x):
    """Pictures or blocks (B, c, h, w) as (B, 3, 64, 64); of many channels you see the first three."""
    return torch.nn.functional.interpolate(x[:, :3].expand(-1, 3, -1, -1), size=64)


def rms(x):
    return x.square().mean().sqrt().item()


# %% jupyter={"source_hidden": true} tags=["hide-input"]
rows = []
for model, images, z in ((cat, cats, code), (shoe, shoes, shoe_code)):
    blocks = [panel(z[:1, k] / 3) for k in (0, 15, 30, 45, 50)]
    rows.append(torch.cat([panel(images[:1]), *blocks, panel(model.decode(z[:1]))]))
    error = (model.decode_latents(z) - model.to_latents(images)).abs().max()
    print(f"a code of shape {tuple(z.shape[1:])}, round trip error of the latents {error:.0e}")
    assert error <= 1e-5 and len(z[0]) == 51
names = ["picture", "block 0", "block 15", "block 30", "block 45", "residual", "decoded"]
alt = "A drawn cat and a photographed sneaker, five blocks of their codes that look like noise, and the codes decoded."
grid(rows, column_labels=names, alt=alt)
latents = cat.to_latents(cats)  # (4, 8, 8, 8)

# %% [markdown]
# *What to look for: nothing in the first blocks gives the cat away, and yet the last column is the cat. The difference
# between the latents that went in and those that came out is the rounding of 32-bit numbers.*
#
# One thing this figure does not promise. The models work in the **latents** of an autoencoder. The code gives the
# latents back exactly; the pixels then come from the autoencoder's decoder, which has an error of its own. From here on
# "the picture" means its latents.
#
# ## Notation
#
# | symbol | meaning | in code, with shape |
# |---|---|---|
# | $x_0$ | the picture (its latents) | `latents` (B, 8, 8, 8) |
# | $\bar\alpha_t$ | signal power left at noise level $t$, from nearly 1 down to nearly 0 | `abar` (1000,) |
# | $x_t$ | the noisy picture $\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon$, noise $\epsilon$ | `x` (B, 8, 8, 8) |
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
# All $z_t$ together with $x_T$ are the code. Given the code, nothing is random any more: the model is a deterministic
# map, and the code has 51 blocks where the picture has one. So many codes lead to the same picture, and you need one of
# them.
#
# **First attempt.** Noise the picture up to $x_T$, keep that, and draw the rest.

# %%
lazy = cat.random_code(len(cats), seeds=50)
lazy[:, 0] = code[:, 0]  # x_T of these cats; all later noises are new
again, other = cat.decode(code), cat.decode(lazy)
alt = "Four cats. With only x_T kept they become four different cats; with the whole code they are the same cats."
grid([cats, other, again], row_labels=["picture", "x_T kept", "whole code"], alt=alt)
kept, lost, found = cat.denoiser.schedule.abar_at(999) ** 0.5, rms(other - cats), rms(again - cats)
print(f"x_T keeps {kept:.1%} of the amplitude. RMS error: {lost:.2f} from x_T alone, {found:.2f} from the whole code")
assert kept < 0.01 and found < 0.1 and lost > 3 * found

# %% [markdown]
# *What to look for: valid cats, but not these cats.* The start state has almost forgotten the picture. What made it
# this cat was decided in the later noises.
#
# **Second attempt.** Set $\eta=0$. Then no step draws noise, and $x_T$ is the whole code. Run the steps backwards:
# $x_s \to x_t$ needs the noise that the network sees in $x_t$, and $x_t$ is what you are looking for. *DDIM inversion*
# asks the network about $x_s$ instead and hopes that the answer is about the same. A *fixed-point iteration* then asks
# again, at the $x_t$ just found.


# %%
def round_trip(steps, looks=None):
    """RMS error of DDIM inversion with that many fixed-point iterations, or of DPM-Encoder."""
    model = cat.replace(steps=steps, eta=0.1 if looks is None else 0.0)
    if looks is None:
        z = model.encode_latents(latents[:1])
    else:
        z = ddim_invert(model.denoiser, model.sampler, model.grid, latents[:1], fixed_point_iters=looks)
    return rms(model.decode_latents(z) - latents[:1])


counts, methods = [10, 20, 40], {"DDIM inversion": 0, "with a fixed-point iteration": 1, "DPM-Encoder": None}
errors = {name: [round_trip(n, looks) for n in counts] for name, looks in methods.items()}
alt = "Round trip error at 10 to 40 steps. DDIM inversion falls slowly, fixed points help, DPM-Encoder is at rounding level."
curves(errors, x=counts, xlabel="steps of the sampler", ylabel="RMS error of the latents", logy=True, alt=alt)
for name, row in errors.items():
    print(f"{name:30}" + "".join(f"{error:10.1e}" for error in row))
plain, looked, solved = errors.values()
assert plain[0] > plain[1] > plain[2] > looked[2] > 1e-4 and max(solved) < 1e-6

# %% [markdown]
# *What to look for: inversion is approximate. Its error shrinks with more steps and with more looks, and never reaches
# the flat line at the bottom.* It also answers another question: it has no code for a stochastic sampler at all.
#
# ## 2. Solve for the noise
#
# Here is the whole idea of DPM-Encoder (Wu & De la Torre, 2023). In equation (1) you may know $x_t$ **and** $x_s$. Then
# only $z_t$ is unknown, and the equation is linear in it:
#
# $$z_t = \frac{x_s - \mu_\theta(x_t)}{\sigma}. \tag{2}$$
#
# So draw a noisy path $x_T, \dots, x_s, \dots, x_0$ that ends at your picture, and solve each of its steps for the
# noise.
#
# *Why it is exact.* The decoder starts at the $x_T$ you stored. Suppose it stands where your path stood, at $x_t$. It
# asks the same network about the same $x_t$ and gets the same mean. It adds $\sigma z_t$ and stands at $x_s$, where
# your path went next. Step by step it arrives at $x_0$. Nothing in this argument asks for a *good* network, or for a
# likely path.
#
# *Which path?* The true one: the forward process, seen backwards, knowing where it began. Its law
# $q(x_s \mid x_t, x_0)$ is the sampler's own step with the true noise in place of the predicted one:
#
# $$x_s = \sqrt{\bar\alpha_s}\,x_0 + \sqrt{1-\bar\alpha_s-\sigma^2}\;\epsilon^\star + \sigma\,n, \qquad
# \epsilon^\star = \frac{x_t-\sqrt{\bar\alpha_t}\,x_0}{\sqrt{1-\bar\alpha_t}}, \quad n \sim N(0,I). \tag{3}$$
#
# ## 3. One grey pixel, where all is known
#
# Let the data be one number, $x_0 \sim N(m, s^2)$. The best possible denoiser is then known in closed form, and so is
# the size of the solved noises. Put (3) into (2). The mean $\mu_\theta$ is (3) without $n$ and with the predictions
# $\hat x_0, \hat\epsilon$ in place of $x_0, \epsilon^\star$. Both pairs add up to the same $x_t$, so
# $x_0-\hat x_0 = -\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}\,(\epsilon^\star-\hat\epsilon)$, and what is left is
#
# $$z_t = n - \frac{\kappa}{\sigma}\,(\epsilon^\star - \hat\epsilon), \qquad
# \kappa = \sqrt{\bar\alpha_s\,\frac{1-\bar\alpha_t}{\bar\alpha_t}} - \sqrt{1-\bar\alpha_s-\sigma^2}. \tag{4}$$
#
# A solved noise is fresh noise plus what the denoiser did not know. For Gaussian data the unknown part has a known
# variance, and therefore
#
# $$\operatorname{Var} z_t = 1 + \Big(\frac{\kappa}{\sigma}\Big)^2
# \frac{\bar\alpha_t s^2}{\bar\alpha_t s^2+1-\bar\alpha_t}. \tag{5}$$

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


toy = {}
fig, ax = figure(7, 3.2)
for i, eta in enumerate((0.1, 0.5, 1.0)):
    theory = torch.tensor([predicted_std(eta, step) for step in grid50[:-1]])
    toy[eta] = code_statistics(dpm_encode(ideal, DDIM(schedule, eta), grid50, numbers, seeds=10_000)).std[1:-1]
    ax.plot(range(1, 50), theory, label=f"eta {eta}, equation 5", **style(i) | {"marker": None})
    ax.plot(range(1, 50), toy[eta], label=f"eta {eta}, measured", **style(i) | {"linestyle": ""})
    print(f"eta {eta}: step 1 {toy[eta][0]:.2f}, step 25 {toy[eta][24]:.2f}, step 49 {toy[eta][48]:.2f}")
    assert (toy[eta] / theory - 1).abs().max() < 5 / math.sqrt(2 * len(numbers))
ax.set(xlabel="step (left: noise, right: picture)", ylabel="std of the solved noise", yscale="log")
ax.legend(frameon=False, fontsize="small")
show(fig, alt="Size of solved noises: dots lie on their lines, from 1 to 10 for eta 0.1, to less than 2 for eta 1.")
assert (toy[1.0][:40] - 1).abs().max() < 0.1 and 8 < toy[0.1][-1] < 12 and toy[1.0][-1] < 2

# %% [markdown]
# *What to look for: every measured curve lies on its formula. Far from the picture the noises are standard normal. Near
# the picture they are not, and less so the smaller $\eta$ is.*
#
# You can read off why. At high noise the picture is all but invisible, the best guess is nearly the truth about
# $\epsilon$, and $z_t$ is just $n$. Near the picture the noise is faint and cannot be told from the picture's own
# texture; the miss $\epsilon^\star-\hat\epsilon$ has nearly unit size, and it is divided by a small
# $\sigma \propto \eta$. For small $\eta$, with $\rho=(1-\bar\alpha_t)/(1-\bar\alpha_s)$,
#
# $$\operatorname{std} z_t \;\approx\; \frac1\eta \sqrt{\rho\,\frac{\sqrt\rho-1}{\sqrt\rho+1}}. \tag{6}$$
#
# Only the ratio of two noise powers counts. The latent-space sampler published with the paper takes its last step from
# $t=1$ to $t=0$ and puts the clean picture there, although $\bar\alpha_0<1$. The same algebra gives
# $\rho/(\eta\sqrt{\rho-1})$ for that step, about $2/\eta$: a property of that grid, not of DPM-Encoder.

# %%
power = (1 - schedule.abar).tolist()  # of the noise, at each level
root, theirs = math.sqrt(power[39] / power[19]), power[1] / power[0]  # our last noisy step, and the step 1 -> 0
ours, theirs = root * math.sqrt((root - 1) / (root + 1)), theirs / math.sqrt(theirs - 1)
x_t = schedule.add_noise(numbers, normal(torch.arange(5000), (1, 1, 1), "toy", torch.float64), 1)
mean, std = DDIM(schedule, 0.1).transition(x_t, ideal(x_t, 1), Step(1, 0))
measured = 0.1 * toy[0.1][-1], 0.1 * ((numbers - mean) / std).std()
print(f"last noisy step of our grid: equation 6 gives {ours:.2f} / eta, measured {measured[0]:.2f} / eta")
print(f"step 1 -> 0 with the clean picture at its end: {theirs:.2f} / eta, measured {measured[1]:.2f} / eta")
assert (
    grid50[-2] == Step(39, 19)
    and abs(measured[0] / ours - 1) < 0.05
    and abs(measured[1] / theirs - 1) < 0.05
    and 1.9 < theirs < 2.1
)

# %% [markdown]
# ## 4. From scratch
#
# Three functions. `gaussian` is one step of DDIM as somebody sees it who believes in some $x_0$ and $\epsilon$. The
# encoder calls it twice: with the truth, to draw where the path goes, and with the network's belief, to solve for the
# noise.


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


abar, x0, steps20 = schedule.abar, latents[:2].double(), step_grid(1000, 20)
ours = encode(cat.denoiser, abar, 0.5, steps20, x0, seed=7)
package = dpm_encode(cat.denoiser, DDIM(schedule, 0.5), steps20, x0, seeds=7)
assert (ours - package).abs().max() <= 1e-12
package = decode_code(cat.denoiser, DDIM(schedule, 0.5), steps20, ours)
assert (decode(cat.denoiser, abar, 0.5, steps20, ours) - package).abs().max() <= 1e-12
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

print("largest round trip error     eta 0.01   eta 0.1   eta 0.5     eta 1")
for name, denoiser in (("untrained", Denoiser(untrained, schedule)), ("trained", cat.denoiser)):
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        x, worst = latents[:2].to(dtype), []
        for eta in (0.01, 0.1, 0.5, 1.0):
            sampler = DDIM(schedule, eta)
            z = dpm_encode(denoiser, sampler, steps20, x)
            worst.append((decode_code(denoiser, sampler, steps20, z) - x).abs().max().item())
        print(f"{name:10} {str(dtype)[6:]:12}" + "".join(f"{e:10.0e}" for e in worst))
        assert max(worst) <= bound

# %% [markdown]
# The untrained network "sees" rubbish at every step, and the noises make up for it. The sum is right all the same. Two
# details make it right to the last digits.
#
# **The correction.** In floating point, $\mu + \sigma\,\frac{x_s-\mu}{\sigma}$ is not quite $x_s$. If the encoder goes
# on from $x_s$, the decoder is off by a rounding, its network answers slightly differently, and the gap grows along the
# chain. If the encoder goes on from $\mu+\sigma z_t$ instead, both stand on the same numbers at every step. Only the
# rounding of the very last addition remains. In 16 bits the difference is plain to see. The price: encoder and decoder
# must compute alike. Matrix products of another batch size round differently, and a bit of the error comes back.
#
# **The residual.** The last step lands on clean data. There $\sigma=0$: no noise is drawn, and (2) would divide by
# zero. Yet the network's last guess $\hat x_0$ is not your picture. minidiff keeps what is missing, $x_0-\mu$, in the
# last block. Without it the picture comes back as the network would have finished it. Section 3 tells how far off that
# is for an ideal denoiser: about $\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$, the noise of the last level.

# %%
x = latents[:2].half()
half_errors = {}
for corrected in (True, False):
    z = encode(cat.denoiser, abar, 0.1, steps20, x, seed=0, corrected=corrected)
    half_errors[corrected] = (decode(cat.denoiser, abar, 0.1, steps20, z) - x).abs().max().item()
print(f"float16 path: error {half_errors[True]:.5f} corrected, {half_errors[False]:.5f} uncorrected")
assert half_errors[True] < 0.003 and half_errors[False] > 3 * half_errors[True]
alone = (cat.decode_latents(code[:1]) - latents[:1]).abs().max()
print(f"float32 code of four cats, the first decoded alone: error {alone:.0e}")
assert alone <= 1e-5

dropped = code.clone()
dropped[:, -1] = 0
without = rms(cat.decode_latents(dropped) - latents)
last_noise = math.sqrt(1 / schedule.abar_at(19) - 1)
print(f"without the residual: RMS error {without:.3f}; noise of the last level: {last_noise:.3f}")
assert 0.3 * last_noise < without < 1.5 * last_noise

# %% [markdown]
# ## 6. Any path will do, but not any path is good
#
# Exactness holds for every path that ends at $x_0$. *Edit-friendly* inversion (Huberman-Spiegelglas et al., 2024) uses
# this freedom. It draws every $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,n_t$ with an **independent**
# $n_t$. Such a path jumps. The solved noises have to make the jumps: each pulls to the next random state and away from
# the last one. So $\sigma z_t$ is roughly a difference $n_s - n_t$. Differences of independent numbers have a larger
# spread, and neighbours share one number with opposite sign: their correlation is $-\tfrac12$.

# %%
spread, lag = {}, {}
for path, eta in (("posterior", "1"), ("independent", "1"), ("posterior", "0.1"), ("independent", "0.1")):
    stats = code_statistics(cat.replace(eta=float(eta)).encode(cats, trajectory=path))
    std, lag1 = spread[f"{path}, eta {eta}"], lag[f"{path}, eta {eta}"] = stats.std[1:-1], stats.lag1[1:-1]
    early, late = (f"std {std[k].mean():4.1f}, lag-1 {lag1[k].mean():5.2f}" for k in (slice(5, 20), slice(40, 47)))
    print(f"{path:11} eta {eta:4} steps 6-20: {early}    steps 41-47: {late}")
alt = "{} along the code. Independent paths: {}. Posterior paths: {} at eta 1, at eta 0.1 rising towards the picture."
label, look = "step (left: noise, right: picture)", {"size": (7, 2.6)}
curves(spread, xlabel=label, ylabel="std", logy=True, alt=alt.format("Size of the noises", "large", "near 1"), **look)
curves(lag, xlabel=label, ylabel="correlation", alt=alt.format("Correlation of neighbours", "-0.5", "none"), **look)
assert abs(lag["independent, eta 1"][5:40].mean() + 0.5) < 0.08 and abs(lag["posterior, eta 1"][5:20].mean()) < 0.1
assert spread["independent, eta 1"][5:40].min() > 1.8 and lag["posterior, eta 0.1"][40:47].mean() > 0.5
assert (spread["independent, eta 0.1"][5:40] / spread["independent, eta 1"][5:40] / 10 - 1).abs().max() < 0.2

# %% [markdown]
# *What to look for: the two independent curves at $-0.5$ and their size, ten times larger for a tenth of $\eta$. Then
# the posterior curve at $\eta=0.1$, which rises in both figures.*
#
# So the statistics tell how a code was made. Draws of $N(0,I)$ have standard deviation 1 and correlation 0. Posterior
# codes at $\eta=1$ come close. At $\eta=0.1$ a path keeps its noise $\epsilon^\star$ from step to step. The network
# misses the same details each time, so neighbouring late blocks repeat the same correction, blown up by $1/\eta$.
# Independent codes are far from normal everywhere.
#
# The paper calls the space of codes Gaussian, and for *sampling* it is. For *encoding* it is not: what you find is a
# valid code, not a typical one. Do not expect a code of a real picture to pass for noise, and do not "repair" it.
#
# ## 7. The codes of a drawn cat and a real shoe
#
# Equation (4) holds for every network, with its own miss in place of the ideal one. So the variance of the solved
# noises is a portrait of a model: wherever it lies above 1, something came that the model did not expect.

# %%
variance = {f"cats, eta {eta}": spread[f"posterior, eta {eta}"] ** 2 for eta in ("0.1", "1")}
for eta in ("0.1", "1"):
    variance[f"real sneakers, eta {eta}"] = code_statistics(shoe.replace(eta=float(eta)).encode(shoes)).std[1:-1] ** 2
alt = "Variance of the solved noises of cats and sneakers: 1 at first, then rising, far more at eta 0.1 than at eta 1."
curves(variance, xlabel=label, ylabel="variance of the solved noise", logy=True, alt=alt)
for name, values in variance.items():
    print(f"{name:24} steps 1-25: {values[:25].mean():5.2f}   last noisy step: {values[-1]:7.1f}")
    assert abs(values[:15].mean() - 1) < 0.2 and values[-1] > 1.5

# %% [markdown]
# *What to look for: all four begin at 1 and end high. The first half of the code is decided at noise levels where even
# a good model can only guess, and there the solved noises are as normal as drawn ones.*
#
# **Two seeds.** The path was drawn, so another seed gives another path and another code. Is it another picture?

# %%
other = cat.encode(cats, seeds=1000)
alike = torch.cosine_similarity(code.flatten(2), other.flatten(2), dim=2).mean(0)  # (51,), one value for each block
apart = (cat.decode_latents(other) - latents).abs().max()
early, late = alike[1:26].mean(), alike[40:50].mean()
print(f"same picture to {apart:.0e}; correlation of the codes: x_T {alike[0]:.2f}, early {early:.2f}, late {late:.2f}")
assert apart <= 1e-5 and alike.abs().max() < 0.7 and abs(early) < 0.15 < late

# %% [markdown]
# Different numbers, one picture. So `decode` is a function and `encode` is a random draw from its preimage: the codes
# of one picture form a large surface, and a seed picks a point on it.
#
# **Which blocks carry what?** Take the code of one cat and put in a group of blocks from another cat's code. Decode,
# and measure how far the result went from the first cat ($a$) to the second ($b$): the *share*
# $\sum\langle x-a,\, b-a\rangle / \sum\lVert b-a\rVert^2$ over four pairs, which is 0 at $a$ and 1 at $b$. Do it for
# the latents, and for the background alone, a corner of the decoded picture.

# %%
groups = {"start": (0, 1), "early": (1, 17), "middle": (17, 34), "late": (34, 50), "residual": (50, 51)}


def swap_groups(denoiser, eta, x0):
    """For each group: item i with these blocks of item i - 1, decoded: (groups, B, C, H, W)."""
    code = dpm_encode(denoiser, DDIM(schedule, eta), grid50, x0)
    mixed = torch.stack([code] * len(groups))  # (groups, B, 51, C, H, W)
    for i, (first, end) in enumerate(groups.values()):
        mixed[i, :, first:end] = code.roll(1, 0)[:, first:end]
    return decode_code(denoiser, DDIM(schedule, eta), grid50, mixed.flatten(0, 1)).unflatten(0, mixed.shape[:2])


def share(result, a):
    way = a.roll(1, 0) - a
    return ((result - a) * way).flatten(1).sum(1) / way.square().sum()


shares = {}
for eta in (0.1, 1.0):
    result = swap_groups(cat.denoiser, eta, latents)
    drawn = cat.to_images(result.flatten(0, 1)).unflatten(0, result.shape[:2])
    shares[f"eta {eta}"] = share(result, latents)
    shares[f"eta {eta}, background"] = share(drawn[..., :6, :6], again[..., :6, :6])
    alt = f"Cats a and b at eta {eta}, and a with one group of blocks of b: the residual changes nothing, the middle much."
    rows = [torch.cat([cats[i : i + 1], drawn[:, i], cats[i - 1 : i]]) for i in (1, 2)]
    grid(rows, column_labels=["a", *(f"{name} of b" for name in groups), "b"], alt=alt)
shares["Gaussian pixel"] = share(swap_groups(ideal, 0.1, numbers), numbers)
for name, values in shares.items():
    print(f"{name:20}" + "  ".join(f"{n} {v:5.2f}" for n, v in zip(groups, values)) + f"   sum {values.sum():.3f}")
assert shares["eta 0.1"][0] > shares["eta 1.0"][0] + 0.03 and shares["eta 1.0"][0] < 0.1
assert max(values[4] for values in shares.values()) < 0.1 and abs(shares["Gaussian pixel"].sum() - 1) < 1e-9
for background in (shares["eta 0.1, background"], shares["eta 1.0, background"]):
    assert background[:2].sum() > 0.5 and background[3] < 0.1

# %% [markdown]
# *What to look for: the colour of the background follows the start and the early blocks, the face the middle ones, fur
# and mouth the late ones. The residual changes nothing you could see.*
#
# A small $\eta$ puts more of the picture into $x_T$; in the limit $\eta\to0$ the start is the whole code. With $\eta=1$
# the start is forgotten, and the noises hold it all. At $\eta=0.1$ a foreign start also looks overdriven: the late
# noises, several times too large for chance, were solved for another path. For the Gaussian pixel of section 3 the map
# from code to picture is a sum of its blocks, so the shares add up to exactly 1. For a network they need not.
#
# ## 8. `strength`: how much of the picture stays a picture
#
# Nothing forces the path to start at pure noise. `strength` keeps only the cleanest part of the grid: at 0.6 the code
# begins with $x_{599}$ and has 31 blocks instead of 51. The more of the picture is left in block 0, the less another
# model can change when it decodes this code. That is the knob of lesson 10.

# %%
tops, redrawn, gap, names = [], [], [], ["0.2", "0.4", "0.6", "0.8"]
for strength in map(float, names):
    model = cat.replace(strength=strength)
    z, fresh = model.encode(cats[:2]), model.random_code(2, seeds=50)
    assert (model.decode_latents(z) - latents[:2]).abs().max() <= 1e-5
    fresh[:, 0] = z[:, 0]
    tops.append(model.to_images(z[:1, 0]))
    redrawn.append(model.decode(fresh))
    gap.append(rms(redrawn[-1] - again[:2]))
    print(f"strength {strength}: {z.shape[1]} blocks, exact; with the noises drawn again RMS error {gap[-1]:.2f}")
alt = "Block 0 at strength 0.2 to 0.8 fades into noise. With the other noises drawn again the cat turns into another."
grid([torch.cat(tops), torch.cat(redrawn)[::2]], row_labels=["block 0", "noises redrawn"], column_labels=names, alt=alt)
assert gap[0] < gap[1] < gap[3] and cat.replace(strength=0.6).grid[0].t == 599

# %% [markdown]
# *What to look for: the first row fades into noise, and the second drifts away from the cat.* With the solved noises
# nothing drifts, at any strength: they carry what the start has lost.
#
# ## 9. Walk along the path
#
# The slider shows one step at a time: the state $x_s$ after it, the picture that the network predicted in $x_t$, and
# the noise that was solved for.

# %%
states = list(sampling(cat.denoiser, cat.sampler, cat.grid, code[:1]))
noisy = cat.to_images(torch.cat([state.x for state in states]))
guess = cat.to_images(torch.cat([state.prediction.x0 for state in states]))
solved = panel(code[0, 1:] / 3)


def frame(k):
    """Step k as PNG bytes."""
    with torch.inference_mode():
        row, alt = torch.stack([noisy[k], guess[k], solved[k]]), f"State, prediction and solved noise of step {k + 1}."
        return grid(row, column_labels=["x_s", "predicted x_0", "solved noise"], alt=alt, display=False).png


slider = widgets.IntSlider(value=0, min=0, max=49, description="step")
picture = widgets.Image(value=frame(0), format="png")
slider.observe(lambda change: setattr(picture, "value", frame(change["new"])), "value")
widgets.VBox([slider, picture])

# %%
before, slider.value = picture.value, 30
assert picture.value != before and picture.value[1:4] == b"PNG"

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chosen = [0, 10, 20, 30, 40, 49]
labels = ["x_s", "predicted x_0", "solved noise"]
alt = "Six steps of one path: the state clears up late, the prediction turns from a blurred average cat into this cat."
names = [f"step {k + 1}" for k in chosen]
grid([noisy[chosen], guess[chosen], solved[chosen]], row_labels=labels, column_labels=names, alt=alt)
away = [rms(states[k].prediction.x0 - latents[:1]) for k in chosen]
print("RMS error of the prediction:", "  ".join(f"step {k + 1} {value:.2f}" for k, value in zip(chosen, away)))
first = cat.denoiser(code[:, 0], 999).x0  # what the network makes of four different cats at the first step
print(
    f"spread of the cats {rms(latents - latents.mean(0)):.2f}, of their first predictions {rms(first - first.mean(0)):.2f}"
)
assert away[0] > 1.5 * away[3] > 3 * away[5] and rms(first - first.mean(0)) < 0.2 * rms(latents - latents.mean(0))

# %% [markdown]
# *The static copy of the slider. What to look for: at the first step the prediction is an average cat, whatever the
# picture. Each solved noise pushes it a little towards this one.*
#
# ## 10. How it fails
#
# ```{dropdown} Guess first: what do you see if you keep every second noise and decode on a grid of half as many steps?
# The shapes fit: 26 blocks. But each noise was solved for its own step, for the mean that the network gave at that
# state, on the way to that next state. On the coarser grid states, means and deviations are different ones. You see a
# faded relative of the cat: place and pose hold, colours and markings drift.
# ```

# %%
normal_sized = code[:2].clone()
normal_sized[:, 1:-1] /= normal_sized[:, 1:-1].flatten(2).std(2)[..., None, None, None]
thinned = torch.cat([code[:2, :1], code[:2, 2:50:2], code[:2, 50:]], dim=1)
panels = {
    "exact": again[:2],
    "no residual": cat.decode(dropped[:2]),
    "scaled to std 1": cat.decode(normal_sized),
    "every second": cat.replace(steps=25).decode(thinned),
    "decoded at eta 1": cat.replace(eta=1.0).decode(code[:2]),
    "dog model": minidiff.load("critters-dog").decode(code[:2]),
}
rows = [torch.stack([images[i] for images in panels.values()]) for i in (0, 1)]
alt = "Two cats decoded wrongly: no residual as before, scaled paler, every second faded, eta 1 garish, dog model dogs."
grid(rows, column_labels=list(panels), alt=alt)
off = {name: rms(images - again[:2]) for name, images in panels.items()}
print("RMS distance to the exact picture:", "  ".join(f"{name} {value:.3f}" for name, value in off.items()))
assert 0.005 < off["no residual"] < off["scaled to std 1"] / 2 < off["every second"] / 4 < off["decoded at eta 1"] / 8

# %% jupyter={"source_hidden": true} tags=["hide-input"]
half = abar.half()  # the same schedule, kept in 16 bits
zeros = sum(at(half, step.t) == at(half, step.s) for step in step_grid(1000, 1000)[:-1])
print(f"schedule in float16: std is 0 for {zeros} of 999 steps, where equation 2 divides by it")
assert zeros > 0
for attempt in (
    lambda: dpm_encode(cat.denoiser, DDIM(schedule, 0.0), steps20, latents),  # eta = 0
    lambda: cat.replace(steps=20).decode(code),  # another grid
    lambda: Schedule("half", half),  # 16 bits
):
    try:
        attempt()
        raise AssertionError("this should have been refused")
    except ValueError as why:
        print("refused:", why)

# %% [markdown]
# *What to look for: a missing residual is hard to see, which is why it must be measured. Scaled noises fade the stripes
# and the mouth, and every second noise makes a relative. Another eta is a disaster. The last column is not a failure at
# all.*
#
# - **Scaled to std 1.** The late noises are large because they have to be. Shrink them to the size of chance and the
#   details they carry fade.
# - **Another eta or another grid.** A code belongs to its sampler. A different grid has a different number of blocks
#   and is refused. A different eta fits, and goes wrong in silence: noises several times too large now meet a $\sigma$
#   ten times larger.
# - **The schedule in 16 bits.** Near 1 it has too few digits: neighbouring $\bar\alpha$ become equal and steps get
#   $\sigma=0$. minidiff keeps schedules in 64 bits and refuses others.
# - **Another model.** The mean changes, the noises do not, and the result is a dog with something of the cat. Lesson 10
#   makes a method of it.
#
# ## Summary
#
# 1. A stochastic sampler is a map from codes to pictures; to encode is to solve each of its steps for the noise.
# 2. The result is exact for any network, path, $\eta>0$ and strength, if the last residual is kept and the path is
#    corrected. Training has no part in it.
# 3. A solved noise is fresh noise plus what the network missed, times $\kappa/\sigma$. For Gaussian data its size is
#    known.
# 4. Posterior paths give nearly normal codes at $\eta=1$; independent paths give large, anticorrelated ones.
# 5. Small $\eta$ and small `strength` keep more of the picture in block 0.
#
# ## Three open questions
#
# - All codes on a picture's surface decode to the same picture with *this* model. Which of them is the best to hand to
#   *another* model, and could you find it without drawing many?
# - Late blocks repeat themselves at $\eta=0.1$. How few numbers would describe a code without losing the picture?
# - The variance curve shows where a model misses. Could you use it, without any sample, to choose the steps of a grid
#   or to tell a picture the model was trained for from one it was not?
#
# ## References
#
# - C. H. Wu, F. De la Torre. *A latent space of stochastic diffusion models for zero-shot image editing and guidance.*
#   ICCV 2023; first as *Unifying diffusion models' latent space, with applications to CycleDiffusion and guidance*,
#   arXiv 2210.05559.
# - J. Song, C. Meng, S. Ermon. *Denoising diffusion implicit models.* ICLR 2021, arXiv 2010.02502.
# - J. Ho, A. Jain, P. Abbeel. *Denoising diffusion probabilistic models.* NeurIPS 2020, arXiv 2006.11239.
# - I. Huberman-Spiegelglas, V. Kulikov, T. Michaeli. *An edit friendly DDPM noise space: inversion and manipulations.*
#   CVPR 2024, arXiv 2304.06140.
# - D. Garibi, O. Patashnik, A. Voynov, H. Averbuch-Elor, D. Cohen-Or. *ReNoise: real image inversion through iterative
#   noising.* ECCV 2024, arXiv 2403.14602.
# - R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer. *High-resolution image synthesis with latent diffusion
#   models.* CVPR 2022, arXiv 2112.10752.
# - H. Xiao, K. Rasul, R. Vollgraf. *Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms.*
#   2017, arXiv 1708.07747.
