"""Their settings in our words: one network, stepped by their DDIM and by ours, goes the same way."""

import pytest
import torch
from torch import nn

diffusers = pytest.importorskip("diffusers")

from minidiff.bridges.schedulers import FAMILY, Levels, check_prediction, trained_betas, training_of  # noqa: E402
from minidiff.denoiser import Denoiser  # noqa: E402
from minidiff.samplers import DDIM, decode_code  # noqa: E402
from minidiff.schedule import Step, cosine, linear, sqrt_linear, step_grid  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # theirs


class Curved(nn.Module):
    """A network that nobody trained."""

    def forward(self, x, t):
        return 0.8 * x + 0.3 * torch.tanh(x.roll(1, -1) + t.to(x.dtype).view(-1, 1, 1, 1) / 1000)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"set_alpha_to_one": True},
        {"set_alpha_to_one": True, "steps_offset": 0},
        {"timestep_spacing": "trailing"},
        {"timestep_spacing": "trailing", "set_alpha_to_one": True},
    ],
)
def test_their_ddim_and_ours_go_the_same_way(stable, settings, prediction):
    theirs = diffusers.DDIMScheduler(**stable | settings, prediction_type=prediction)
    training, net = training_of(theirs), Curved()
    grid = step_grid(training.schedule, 20, spacing=training.spacing)
    theirs.set_timesteps(20)
    assert theirs.timesteps.tolist() == [step.t for step in grid]
    generator = torch.Generator().manual_seed(0)
    code = torch.randn(2, 21, 1, 4, 4, generator=generator, dtype=torch.float64)
    if grid[-1].s == -1:
        code[:, -1] = 0  # a residual: their last step multiplies it by 0
    x = code[:, 0]
    for k, t in enumerate(theirs.timesteps, 1):
        x = theirs.step(net(x, t), t, x, eta=0.3, variance_noise=code[:, k]).prev_sample
    ours = decode_code(Denoiser(net, training.schedule, training.predicts), DDIM(training.schedule, 0.3), grid, code)
    torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_every_scheduler_of_the_family_can_be_read(stable, name):
    if name == "DPMSolverSDEScheduler" and not diffusers.utils.is_torchsde_available():
        pytest.skip("it needs torchsde")
    if name == "LMSDiscreteScheduler" and not diffusers.utils.is_scipy_available():
        pytest.skip("it needs scipy")
    training = training_of(getattr(diffusers, name).from_config(stable))
    torch.testing.assert_close(training.schedule.abar, sqrt_linear().abar, rtol=1e-5, atol=0)
    assert training.predicts == "eps" and training.clip is None


def test_stable_diffusion_s_grid():
    """Every 20th level from 1 on, down to level 0 and not to clean data, as its authors' sampler walks."""
    levels = Levels("leading", 1, 0)
    grid = step_grid(sqrt_linear(), 50, spacing=levels)
    assert grid[0] == Step(981, 961) and grid[-2:] == (Step(21, 1), Step(1, 0)) and len(grid) == 50
    assert step_grid(sqrt_linear(), 50, 0.7, levels) == grid[-35:]
    assert step_grid(1000, 4, spacing=Levels("linspace", 0, 0)) == (Step(999, 666), Step(666, 333), Step(333, 0))
    assert levels == Levels("leading", 1, 0) != Levels("leading", 0, 0)


def test_spacings_by_name(stable):
    spacing = {
        ("linspace", True): "uniform",
        ("trailing", True): "trailing",
        ("trailing", False): Levels("trailing", 0, 0),
        ("leading", True): Levels("leading", 1),
        ("leading", False): Levels("leading", 1, 0),
    }
    for (kind, to_one), ours in spacing.items():
        scheduler = diffusers.DDIMScheduler(**stable | {"timestep_spacing": kind, "set_alpha_to_one": to_one})
        assert training_of(scheduler).spacing == ours
    karras = diffusers.EulerDiscreteScheduler.from_config(stable, use_karras_sigmas=True)
    assert training_of(karras).spacing == "karras"


def test_clipping_and_pure_noise(stable):
    assert training_of(diffusers.DDPMScheduler()).clip == 1.0
    assert training_of(diffusers.EulerDiscreteScheduler()).clip is None
    flat = diffusers.DDIMScheduler(**stable, rescale_betas_zero_snr=True)
    assert flat.alphas_cumprod[-1] == 0 and training_of(flat).schedule.abar[-1] == 2.0**-24


@pytest.mark.parametrize("schedule", [linear(), cosine()])
def test_our_levels_in_their_words(schedule):
    theirs = diffusers.DDIMScheduler(trained_betas=trained_betas(schedule))
    torch.testing.assert_close(theirs.alphas_cumprod.double(), schedule.abar, rtol=1e-3, atol=1e-5)
    betas = torch.tensor(trained_betas(schedule), dtype=torch.float64)
    torch.testing.assert_close(torch.cumprod(1 - betas, 0), schedule.abar, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("FlowMatchEulerDiscreteScheduler", {}, "scheduler: expected one of DDIM.*, got FlowMatchEuler"),
        ("LCMScheduler", {}, "scheduler: expected one of DDIM.*, got LCM"),
        ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction"}, "prediction_type .* 'flow_prediction'"),
        ("DDIMScheduler", {"prediction_type": "noise"}, "prediction_type to be one of epsilon, .*, got 'noise'"),
        ("DDIMScheduler", {"thresholding": True}, "minidiff has no thresholding"),
        ("DDIMScheduler", {"timestep_spacing": "odd"}, "timestep_spacing 'leading', .* got 'odd'"),
    ],
)
def test_refusals(name, settings, says):
    with pytest.raises(ValueError, match=says):
        training_of(getattr(diffusers, name)(**settings))


def test_more_steps_than_the_offset_leaves_room_for():
    with pytest.raises(ValueError, match="steps: 1000 steps with offset 1 begin at 1000, above T - 1 = 999"):
        step_grid(1000, 1000, spacing=Levels("leading", 1, 0))


def test_a_scheduler_that_reads_the_output_otherwise_is_refused():
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction")
    check_prediction(scheduler, "v")
    with pytest.raises(ValueError, match="network predicts 'epsilon' and the scheduler reads 'v_prediction'; make it"):
        check_prediction(scheduler, "eps")
