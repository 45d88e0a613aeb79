"""diffusers' CycleDiffusionPipeline and ours on the same weights, seeds and noise; and where theirs is wrong.

Theirs draws from one generator: the start, then the noise of every step but the last. Here it is handed the streams "path 0",
"path 1", ... that our encoder draws from. Ours is right where theirs is not: what is right is shown by theirs itself, asked in
a way that avoids the defect, or by the definition.
"""

import importlib
import inspect
from itertools import count

import pytest
import torch

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from minidiff.bridges.pipelines import from_pipeline  # noqa: E402
from minidiff.samplers import sampling  # noqa: E402
from minidiff.seeds import as_seeds, normal  # noqa: E402

THEIRS = "diffusers.pipelines.deprecated.stable_diffusion_variants.pipeline_cycle_diffusion"
STEPS, STRENGTH = 10, 0.8
WORDS = {"source": ["cat", "ape"], "target": ["dog", "fox"]}


@pytest.fixture
def pipe(parts):
    pipe = diffusers.CycleDiffusionPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def theirs(pipe, monkeypatch):
    """Edit latents by their pipeline, with the noise of our seeds."""
    module = importlib.import_module(THEIRS)

    def edit(latents, seeds, words=WORDS, eta=0.1, **scales):
        noises = (normal(as_seeds(seeds, len(latents)), latents.shape[1:], f"path {k}") for k in count())
        monkeypatch.setattr(module, "randn_tensor", lambda shape, **_: next(noises))
        said = {"prompt": words["target"][: len(latents)], "source_prompt": words["source"][: len(latents)]}
        settings = {"num_inference_steps": STEPS, "strength": STRENGTH, "eta": eta, "output_type": "latent"}
        return pipe(image=latents, **said, **settings, **scales).images

    return edit


@pytest.fixture
def ours(pipe):
    def edit(latents, seeds, words=WORDS, eta=0.1, guidance_scale=1.0, source_guidance_scale=1.0):
        model = from_pipeline(pipe).replace(steps=STEPS, strength=STRENGTH, eta=eta)
        before = model.given(words["source"][: len(latents)], scale=source_guidance_scale)
        after = model.given(words["target"][: len(latents)], scale=guidance_scale)
        return after.decode_latents(before.encode_latents(latents, seeds))

    return edit


def latents(number=1):
    return normal(as_seeds(20, number), (4, 8, 8))


@pytest.mark.parametrize("eta", [0.1, 1.0])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (3.0, 1.0), (2.0, 4.0)])
def test_one_picture_at_a_time_both_agree(theirs, ours, scales, eta):
    settings = {"eta": eta, "guidance_scale": scales[0], "source_guidance_scale": scales[1]}
    found = ours(latents(), [5], **settings)
    torch.testing.assert_close(found, theirs(latents(), [5], **settings), rtol=0, atol=2e-5)
    assert (found - latents()).abs().max() > 0.01
    assert (found - ours(latents(), [6], **settings)).abs().max() > 0.001


def test_without_guidance_batches_agree_as_well(theirs, ours):
    settings = {"guidance_scale": 1.0}
    torch.testing.assert_close(ours(latents(2), [5, 6]), theirs(latents(2), [5, 6], **settings), rtol=0, atol=1e-4)


def test_with_guidance_theirs_mixes_up_a_batch(theirs, ours):
    """It takes items 0 and 1 of the doubled batch for one picture without and with its words."""
    settings = {"guidance_scale": 3.0}
    second = {side: words[1:] for side, words in WORDS.items()}
    right = [theirs(latents(), [5], **settings), theirs(latents(2)[1:], [6], second, **settings)]
    torch.testing.assert_close(ours(latents(2), [5, 6], **settings), torch.cat(right), rtol=0, atol=1e-4)
    wrong = theirs(latents(2), [5, 6], **settings) - torch.cat(right)
    assert wrong.abs().flatten(1).amax(1).min() > 0.01  # both pictures


def test_theirs_ignores_the_source_s_guidance_unless_the_target_has_some(theirs, ours):
    strong = {"guidance_scale": 1.0, "source_guidance_scale": 4.0}
    ignored = theirs(latents(), [5], **strong)
    assert torch.equal(ignored, theirs(latents(), [5], guidance_scale=1.0))
    right = theirs(latents(), [5], **strong | {"guidance_scale": 1 + 1e-7})  # above 1, by nothing that counts
    torch.testing.assert_close(ours(latents(), [5], **strong), right, rtol=0, atol=1e-4)
    assert (ignored - right).abs().max() > 0.01


def test_theirs_divides_by_zero_where_the_last_step_draws_no_noise(theirs, ours, pipe):
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, set_alpha_to_one=True)
    assert theirs(latents(), [5], guidance_scale=1.0).isnan().all()
    assert ours(latents(), [5]).isfinite().all()
    same = {"source": ["cat"], "target": ["cat"]}
    torch.testing.assert_close(ours(latents(), [5], same), latents(), rtol=0, atol=1e-4)


def test_theirs_cleans_the_picture_one_step_too_early(pipe):
    """With steps_offset 0 the step before the last ends at level 0, where q(x_0 | x_t, picture) still has noise."""
    scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, steps_offset=0, set_alpha_to_one=True)
    scheduler.set_timesteps(STEPS)
    pipe.scheduler = scheduler
    model = from_pipeline(pipe).replace(steps=STEPS, strength=STRENGTH).given("cat")
    code = model.encode_latents(latents(), [5])
    before, last_but_one, last = list(sampling(model.denoiser, model.sampler, model.grid, code))[-3:]
    assert (last_but_one.step.t, last_but_one.step.s) == (100, 0)
    cleaned = importlib.import_module(THEIRS).posterior_sample(scheduler, before.x, 100, latents(), None, 0.1)
    assert torch.equal(cleaned, latents())
    abar = scheduler.alphas_cumprod[0]
    noise = (last_but_one.x - abar.sqrt() * latents()) / (1 - abar).sqrt()
    assert 0.8 < noise.std() < 1.2
    torch.testing.assert_close(last.x, latents(), rtol=0, atol=1e-4)


def test_their_default_eta_is_not_what_they_say(pipe):
    call = type(pipe).__call__
    assert inspect.signature(call).parameters["eta"].default == 0.1
    assert "eta (`float`, *optional*, defaults to 0.0)" in call.__doc__
    model = from_pipeline(pipe)
    assert model.eta == 0.1 and '0.1 for "ddim"' in type(model).__doc__
