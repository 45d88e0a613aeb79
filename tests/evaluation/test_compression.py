"""The study of compression from end to end on untrained stand-ins, and its parts against what is known."""

import math

import pytest
import torch

from minidiff import zoo
from minidiff.denoiser import Denoiser
from minidiff.evaluation import results
from minidiff.evaluation.intervals import Estimate
from minidiff.evaluation.probes import critters_config
from minidiff.evaluation.rate import Curve, Point
from minidiff.evaluation.studies import compression, compression_chart, reproduce
from minidiff.evaluation.studies.speed import sampling_speed, training_speed
from minidiff.generators import Identity, LatentDiffusion
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.probe import Probe
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.schedule import linear
from minidiff.training.recipes import RECIPES

SMALL = {"n": 10, "curve": 2, "levels": 6, "samples": 8, "steps": 2, "timed": 2}
NAMES = ("study-kl-f8-c4", "study-vq-f4-c3", "critters-autoencoder")


def small_load(name):
    torch.manual_seed(len(name))
    if name == "critters-probe":
        return Probe(critters_config(32)).eval()
    patch, channels = (2, 3) if "f4" in name or name == "study-latents" else (4, 4)
    widths = {"encoder": (8, 8), "decoder": (8, 8, 8), "depth": 1}
    codebook = {"bottleneck": "vq", "codes": 256} if "vq" in name else {}
    autoencoder = Autoencoder(AutoencoderConfig(latent_channels=channels, patch=patch, **widths, **codebook)).eval()
    if name not in compression.DENOISERS:
        return autoencoder
    net = UNet(UNetConfig(in_channels=3, channels=(8, 8), attention=(False, False), time=8))
    torch.nn.init.normal_(net.last.weight, std=0.1)
    pixels = name == "study-pixels"
    return LatentDiffusion(Identity() if pixels else autoencoder, Denoiser(net, linear()).eval(), (3, 32, 32), steps=4)


def test_the_study_writes_its_tables_chart_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "manifest", lambda: {})  # the stand-ins have no history
    settings = SMALL | {"autoencoders": NAMES, "load": small_load}
    found = results.read("compression", reproduce("compression", quick=True, out=tmp_path, **settings).parent)
    assert {file.name for file in tmp_path.iterdir()} == {
        "compression.json", "compression.csv", "compression-rate.svg", "compression-autoencoders.png",
        "compression-samples.png",
    }  # fmt: skip

    kl, vq = (f"autoencoder/{name}" for name in NAMES[:2])
    assert (found[f"{kl}/f"].value, found[f"{kl}/channels"].value, found[f"{vq}/codes"].value) == (8, 4, 256)
    assert found[f"{vq}/bits_per_pixel"].value == 8 / 16 and found[f"{kl}/bits_per_pixel"].n == 10
    rate, left = found[f"{vq}/rate"], found[f"{vq}/rmse"]
    assert rate.value == pytest.approx(0.5 / 3, rel=1e-5) and left.interval[0] < left.value < left.interval[1]
    assert found["curve/t 999/rate"].value < 0.01 and found["curve/whole/rate"].value > 1
    rates = [row.value for row in found.rows if row.name.startswith("curve/t ") and row.quantity == "rate"]
    assert len(rates) == SMALL["levels"] and rates == sorted(rates)
    pixels, latents = (f"denoiser/{name}" for name in compression.DENOISERS)
    assert found[f"{pixels}/parameters"].value == found[f"{latents}/parameters"].value > 1000
    assert found[f"{pixels}/trained"].value is None and found[f"{pixels}/compute"].value is None
    assert found[f"{latents}/train_per_second"].n == 2
    assert found[f"{latents}/sample_per_second"].value > 0 and found[f"{latents}/frechet"].value > 0
    used = found[f"{vq}/codes_used"].value
    assert 1 <= found[f"{vq}/perplexity"].value <= used <= 256
    text = results.markdown_table(found.rows, found.tables["autoencoders"])
    assert "| study-kl-f8-c4 | 8 | - | - | 4 |" in text and f"| study-vq-f4-c3 | 4 | 256 | {used:g} | 3 |" in text
    assert "bits/pixel" in text and "study-latents" in results.markdown_table(found.rows, found.tables["denoisers"])
    svg = (tmp_path / "compression-rate.svg").read_text()
    assert "semantic compression" in svg and "study-vq-f4-c3 needs 0.167 and leaves" in svg
    assert "critters-autoencoder" not in svg  # its pictures have another size


def test_missing_models_are_named_before_any_work(tmp_path, monkeypatch):
    loaded = []

    def load(name):
        loaded.append(name)
        if name.startswith("study-"):
            raise zoo.UnknownModel(name)

    with pytest.raises(ValueError, match="no study-vq-f4-c3, study-pixels, study-latents; train each in this order"):
        reproduce("compression", quick=True, out=tmp_path, autoencoders=NAMES[1:], load=load)
    assert loaded == ["critters-probe", *NAMES[1:], *compression.DENOISERS]
    assert not list(tmp_path.iterdir())


def test_every_model_of_the_study_has_a_recipe():
    ours = {name for name in RECIPES if name.startswith("study-")}
    assert ours == {*compression.AUTOENCODERS, *compression.DENOISERS} - {"critters-autoencoder"} | {"study-probe"}
    for name, size in compression.AUTOENCODERS.items():
        recipe = RECIPES[name]
        assert recipe.held_out().shape == (3, size, size)
        if name.startswith("study-"):
            assert (
                name.removesuffix("-gan")
                == f"study-{recipe.config.bottleneck}-f{recipe.config.factor}-c{recipe.config.latent_channels}"
            )
    pixels, latents = (RECIPES[name] for name in compression.DENOISERS)
    assert pixels.config == latents.config and pixels.autoencoder is None
    assert RECIPES[latents.autoencoder].config.latent_channels == latents.config.in_channels


def test_the_autoencoder_is_judged_by_what_its_bits_pay_for():
    """A sample of the posterior, not its mean; seeded, and the same in any batch."""
    network, images = small_load("study-kl-f8-c4"), compression.pictures(32, 5)
    again = compression.reconstruct(network, images)
    assert torch.equal(again, network.decode(network.encode(images, seeds=0)).clamp(-1, 1))
    assert (again != network.decode(network.encode(images))).any()
    torch.testing.assert_close(again, compression.reconstruct(network, images, batch=2), rtol=0, atol=1e-5)


def test_features_are_those_of_pictures_of_the_probes_size():
    probe = Probe(critters_config(32)).eval()
    small = compression.pictures(16, 3)
    large = torch.nn.functional.interpolate(small, (32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(compression.features(probe, small), compression.features(probe, large))


def test_training_is_timed_on_a_copy():
    model = small_load("study-latents")
    before = {name: weight.clone() for name, weight in model.denoiser.state_dict().items()}
    speed = training_speed(model, compression.pictures(32, 4), steps=3, batch=4)
    assert speed.n == 3 and speed.value > 0
    assert all(torch.equal(before[name], weight) for name, weight in model.denoiser.state_dict().items())
    images, rate = sampling_speed(model, 3, batch=2)
    torch.testing.assert_close(images, model.sample(3).clamp(-1, 1))
    assert rate.n == 3 and rate.value > 0


def points(pairs):
    return [Point(t, Estimate(rate, None, 1), Estimate(rmse, None, 1)) for t, (rate, rmse) in enumerate(pairs)]


def test_the_knee_parts_the_regions():
    """The paper's figure, read off. The line from (0, 88) to (1.77, 1) passes 65 above 0.06 bits, 68 above 0.25, 59 above 0.5."""
    curve = points([(0, 88), (0.03, 40), (0.06, 20), (0.25, 8), (0.5, 4), (1, 2), (1.77, 1)])
    assert compression_chart.knee(curve) == 3
    text = compression_chart.describe(curve, [])
    assert "from an RMSE of 88 without any bits to 8 at 0.25 bits" in text and "Autoencoders" not in text
    regions = compression_chart.draw(curve, []).axes[0].patches
    assert [(patch.get_x(), patch.get_width()) for patch in regions] == [(0, 0.25), (0.25, pytest.approx(1.52))]


def test_rows_of_a_long_curve_are_few_and_hold_both_ends():
    curve = Curve(points([(k, math.exp(-k)) for k in range(1000)]), Estimate(1.0, None, 1))
    rows = compression.curve_rows(curve)
    levels = [int(row.name.split("/")[1][2:]) for row in rows if row.quantity == "rmse"]
    assert levels[0] == 0 and levels[-3:] == [997, 998, 999] and 30 < len(levels) < 45


def test_compute_is_pictures_over_speed(monkeypatch):
    entry = {"seconds": 99.0, "steps": 50, "recipe": {"batch": 8}}
    monkeypatch.setattr(zoo, "manifest", lambda: {"study-pixels": entry})
    marks = compression.denoiser_marks("study-pixels", small_load("study-pixels"), Estimate(20.0, None, 3), None)
    assert {name: marks[name].estimate.value for name in ("trained", "pictures", "compute")} == {
        "trained": 99, "pictures": 400, "compute": 20,
    }  # fmt: skip
