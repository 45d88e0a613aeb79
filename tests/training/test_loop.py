import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from minidiff.training.checkpoint import load
from minidiff.training.loop import CHECKPOINT, METRICS, MODEL, STAGE, STAGES, learning_rate, train
from minidiff.training.metrics import rows


def same(a, b):
    (tensors_a, _), (tensors_b, _) = load(a), load(b)
    assert tensors_a.keys() == tensors_b.keys()
    return all(torch.equal(tensors_a[name], tensors_b[name]) for name in tensors_a)


def timeless(path):
    return [{"step": row["step"], "loss": row["loss"], "lr": row["lr"]} for row in rows(path)]


@pytest.mark.parametrize("stop", [3, 6, 9])
def test_resumed_is_uninterrupted_to_the_last_bit(autoencoder_recipe, tmp_path, stop):
    whole = list(train(autoencoder_recipe, tmp_path / "whole", cpu=True))
    broken = train(autoencoder_recipe, tmp_path / "broken", cpu=True)
    for step in broken:
        if step.step == stop:
            break
    broken.close()
    resumed = list(train(autoencoder_recipe, tmp_path / "broken", cpu=True))

    assert [step.step for step in whole] == list(range(1, 11))
    assert resumed[0].step == stop // 4 * 4 + 1  # what came after the last checkpoint is lost, no more
    assert [step.loss for step in resumed] == [step.loss for step in whole[-len(resumed) :]]
    assert same(tmp_path / "whole" / CHECKPOINT, tmp_path / "broken" / CHECKPOINT)
    assert same(tmp_path / "whole" / MODEL, tmp_path / "broken" / MODEL)
    assert timeless(tmp_path / "whole" / METRICS) == timeless(tmp_path / "broken" / METRICS)


def test_metrics_hold_the_mean_loss_of_each_interval_and_seconds_go_on(autoencoder_recipe, tmp_path):
    recipe = dataclasses.replace(autoencoder_recipe, log_every=3, checkpoint_every=4)  # an interval spans a checkpoint
    losses = [step.loss for step in train(recipe, tmp_path / "whole", cpu=True)]
    expected = [losses[0:3], losses[3:6], losses[6:9], losses[9:]]
    found = list(rows(tmp_path / "whole" / METRICS))
    assert [row["loss"] for row in found] == [sum(part) / len(part) for part in expected]
    assert [row["step"] for row in found] == [3, 6, 9, 10]

    broken = train(recipe, tmp_path / "broken", cpu=True)
    for _ in range(5):
        next(broken)
    broken.close()
    with open(tmp_path / "broken" / METRICS, "a") as file:
        file.write('{"step": 6, "lo')  # killed in the middle of a line
    list(train(recipe, tmp_path / "broken", cpu=True))
    assert timeless(tmp_path / "broken" / METRICS) == timeless(tmp_path / "whole" / METRICS)
    seconds = [row["seconds"] for row in rows(tmp_path / "broken" / METRICS)]
    assert seconds == sorted(seconds)


def test_a_killed_process_leaves_a_run_that_goes_on(tmp_path, autoencoder_recipe):
    script = """
        import os, signal, sys
        from functools import partial
        from minidiff.data.critters import Critters
        from minidiff.nets.autoencoder import AutoencoderConfig
        from minidiff.training import train
        from minidiff.training.autoencoders import AutoencoderRecipe

        config = AutoencoderConfig(latent_channels=4, patch=2, encoder=(8, 16), decoder=(8, 8, 16), depth=1)
        recipe = AutoencoderRecipe(
            name="tiny-autoencoder", config=config, seed=1, steps=10, batch=8, lr=1e-3, warmup=3, log_every=2,
            checkpoint_every=4, pictures=partial(Critters, species="all", length=48, size=16, seed=7),
            held_out=partial(Critters, species="all", length=20, size=16, seed=8),
        )
        for step in train(recipe, sys.argv[1], cpu=True):
            if step.step == 7:
                os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script), tmp_path / "killed"], env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert [step.step for step in train(autoencoder_recipe, tmp_path / "killed", cpu=True)] == [5, 6, 7, 8, 9, 10]
    list(train(autoencoder_recipe, tmp_path / "whole", cpu=True))
    assert same(tmp_path / "killed" / MODEL, tmp_path / "whole" / MODEL)


def test_stages_are_kept_as_they_were(autoencoder_recipe, tmp_path):
    recipe = dataclasses.replace(autoencoder_recipe, stages=(4, 10))
    list(train(recipe, tmp_path, cpu=True))
    first, last = (load(tmp_path / STAGE.format(step)) for step in recipe.stages)
    checkpoint, _ = load(tmp_path / CHECKPOINT)
    assert first[1]["step"] == 4 and first[0].keys() == last[0].keys()
    assert all(torch.equal(value, checkpoint[name]) for name, value in last[0].items())
    assert not any("optimizer" in name for name in last[0])
    assert any(not torch.equal(value, last[0][name]) for name, value in first[0].items())
    next(train(recipe, tmp_path, resume=False, cpu=True))
    assert not list(tmp_path.glob(STAGES))
    with pytest.raises(ValueError, match=r"stages: expected steps from 1 to 10, got \(11,\)"):
        dataclasses.replace(recipe, stages=(11,))


def test_a_finished_run_is_left_alone_and_starts_anew_on_request(autoencoder_recipe, tmp_path):
    first = list(train(autoencoder_recipe, tmp_path, cpu=True))
    assert list(train(autoencoder_recipe, tmp_path, cpu=True)) == []
    again = list(train(autoencoder_recipe, tmp_path, resume=False, cpu=True))
    assert [step.loss for step in again] == [step.loss for step in first]
    assert len(list(rows(tmp_path / METRICS))) == 5


def test_another_recipe_is_refused_and_nothing_is_lost(autoencoder_recipe, tmp_path):
    list(train(autoencoder_recipe, tmp_path, cpu=True))
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(ValueError, match=r"holds a run with {'lr': 0.001}, not {'lr': 0.002}; start anew"):
        next(train(dataclasses.replace(autoencoder_recipe, lr=2e-3), tmp_path, cpu=True))
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_the_loss_falls_and_the_model_is_the_average(autoencoder_recipe, tmp_path):
    recipe = dataclasses.replace(autoencoder_recipe, steps=60, checkpoint_every=60)
    losses = [step.loss for step in train(recipe, tmp_path, cpu=True)]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    (model, facts), (checkpoint, _) = load(tmp_path / MODEL), load(tmp_path / CHECKPOINT)
    name = "encoder.1.weight"
    assert torch.equal(model[name], checkpoint[f"average/{name}"])
    assert not torch.equal(model[name], checkpoint[f"network/{name}"])
    assert facts["steps"] == 60 and facts["recipe"]["pictures"]["function"] == "Critters"
    assert model["scale"].min() > 0 and not torch.equal(model["scale"], torch.ones(4))  # fit_scale ran


def test_a_loss_that_is_not_a_number_stops_the_run(autoencoder_recipe, tmp_path):
    with pytest.raises(FloatingPointError, match="try an lr below 1e\\+30"):
        list(train(dataclasses.replace(autoencoder_recipe, lr=1e30, warmup=0), tmp_path, cpu=True))


def test_learning_rate_by_hand(autoencoder_recipe):
    recipe = dataclasses.replace(autoencoder_recipe, steps=100, warmup=10, lr=1.0)
    assert learning_rate(recipe, 0) == pytest.approx(0.1)
    assert learning_rate(recipe, 50) == pytest.approx(0.505)
    assert learning_rate(recipe, 100) == pytest.approx(0.01)
    twice = dataclasses.replace(recipe, restarts=(80,), restart_lr=0.5)
    assert learning_rate(twice, 40) == pytest.approx(0.505) and learning_rate(twice, 79) == pytest.approx(
        0.01, abs=1e-3
    )
    assert learning_rate(twice, 80) == pytest.approx(0.05) and learning_rate(twice, 90) == pytest.approx(0.5 * 0.505)
    thrice = dataclasses.replace(twice, restarts=(60, 80))
    assert learning_rate(thrice, 30) == pytest.approx(0.505) and learning_rate(thrice, 70) == pytest.approx(0.5 * 0.505)
    for wrong in ((100,), (80, 60), (0,)):
        with pytest.raises(ValueError, match="restarts: expected rising steps from 1 to 99, got"):
            dataclasses.replace(recipe, restarts=wrong)


def test_after_a_restart_the_decoder_learns_alone_from_the_average(autoencoder_recipe, tmp_path):
    once = dataclasses.replace(autoencoder_recipe, steps=8, checkpoint_every=8)
    twice = dataclasses.replace(once, steps=16, restarts=(8,), restart_lr=1e-3, coarse_until=once.coarse_until / 2)
    for recipe, out in ((once, "once"), (twice, "twice")):
        list(train(recipe, tmp_path / out, cpu=True))
    first, second = (load(tmp_path / out / MODEL)[0] for out in ("once", "twice"))
    for name, value in first.items():
        assert torch.equal(value, second[name]) == (not name.startswith("decoder.")), name


def test_nothing_but_the_core_is_imported():
    """Training must run on a bare machine: torch, numpy, safetensors and accelerate, and what those need."""
    code = "import sys, json, minidiff.training, minidiff.training.export; print(json.dumps(list(sys.modules)))"
    modules = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    heavy = {"matplotlib", "diffusers", "typer", "ipywidgets", "skimage", "torchvision", "open_clip", "torchmetrics"}
    assert heavy.isdisjoint(modules)
