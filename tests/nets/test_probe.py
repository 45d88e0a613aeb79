"""The probe: its shapes, its scale, what it can learn, and that augmentation leaves the picture recognisable."""

import pytest
import torch

from minidiff.nets.probe import Probe, ProbeConfig, augment
from minidiff.seeds import uniform


def squares(count, size=32, seed=0):
    """One bright square on grey: where it is (x, y), its colour, and whether it is large."""
    draw = uniform(torch.arange(count) + seed * 10_000, (6,), "squares")
    x, y, colour, large = draw[:, 0], draw[:, 1], draw[:, 2:5], draw[:, 5] > 0.5
    grid = torch.linspace(0, 1, size)
    half = torch.where(large, 0.2, 0.1)[:, None, None]
    near_x = (grid - 0.25 - 0.5 * x[:, None])[:, None, :].abs() < half
    near_y = (grid - 0.25 - 0.5 * y[:, None])[:, :, None].abs() < half
    images = torch.where((near_x & near_y)[:, None], 2 * colour[:, :, None, None] - 1, torch.tensor(-0.2))
    return images, {"x": x, "y": y, "colour": colour, "large": large.long()}


CONFIG = ProbeConfig(
    size=32, patch=2, widths=(16, 24, 32), features=24, numbers={"x": 1, "y": 1, "colour": 3}, classes={"large": 2}
)


def test_shapes_of_what_it_reads():
    probe = Probe(CONFIG)
    images, _ = squares(3)
    read = probe.read(images)
    assert {name: tuple(value.shape) for name, value in read.items()} == {
        "x": (3,), "y": (3,), "colour": (3, 3), "large": (3,)
    }  # fmt: skip
    assert read["large"].dtype == torch.long
    assert probe.features(images).shape == (3, 24)
    assert probe.loss(images, squares(3)[1]).shape == (3,)


def test_learns_place_colour_and_size():
    torch.manual_seed(0)
    probe, (images, targets) = Probe(CONFIG), squares(512)
    probe.fit_scale(targets)
    optimiser = torch.optim.AdamW(probe.parameters(), lr=2e-3)
    for step in range(120):
        part = torch.arange(64 * step, 64 * step + 64) % 512
        loss = probe.loss(augment(images[part], part + 1000 * step), {k: v[part] for k, v in targets.items()})
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    held_out, truth = squares(200, seed=1)
    read = probe.read(held_out)
    for name in ("x", "y", "colour"):
        stacked = torch.stack([read[name].flatten(), truth[name].flatten()])
        assert torch.corrcoef(stacked)[0, 1] > 0.9, name
    assert (read["large"] == truth["large"]).float().mean() > 0.9


def test_numbers_come_back_in_their_own_units():
    probe, (images, targets) = Probe(CONFIG), squares(64)
    probe.fit_scale(targets | {"x": 100 + 7 * targets["x"]})
    with torch.no_grad():
        probe.regress.weight.zero_(), probe.regress.bias.zero_()
    assert torch.allclose(probe.read(images)["x"], (100 + 7 * targets["x"]).mean().expand(64), atol=1e-3)


def test_items_do_not_see_each_other():
    probe, (images, _) = Probe(CONFIG).double(), squares(4)
    images = images.double()
    assert torch.allclose(probe.features(images)[2:3], probe.features(images[2:3]), atol=1e-12)


def test_the_two_shipped_sizes_stay_small():
    from minidiff.evaluation.probes import critters_config, fashion_config

    for config in (critters_config(), fashion_config()):
        probe = Probe(config)
        assert sum(p.numel() for p in probe.parameters()) < 1_000_000
        images = torch.zeros(2, config.channels, config.size, config.size)
        assert probe.features(images).shape == (2, 64)


def test_configuration_survives_json():
    import json
    from dataclasses import asdict

    assert ProbeConfig(**json.loads(json.dumps(asdict(CONFIG)))) == CONFIG


def test_augmentation_is_mild_and_per_item():
    images, _ = squares(64)
    seeds = torch.arange(64)
    changed = augment(images, seeds)
    assert changed.shape == images.shape
    assert 0.01 < (changed - images).abs().mean() < 0.15
    assert torch.equal(augment(images[5:6], seeds[5:6]), changed[5:6])
    assert not torch.equal(augment(images, seeds + 1), changed)


def test_bad_input_is_refused():
    probe = Probe(CONFIG)
    with pytest.raises(ValueError, match=r"images.*\(B, 3, 32, 32\), got \(1, 3, 64, 64\)"):
        probe.read(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="targets: missing y, large"):
        probe.loss(torch.zeros(1, 3, 32, 32), {"x": torch.zeros(1), "colour": torch.zeros(1, 3)})
    with pytest.raises(ValueError, match="size: expected a multiple of 8"):
        ProbeConfig(size=30, patch=2, classes={"a": 2})
    with pytest.raises(ValueError, match="at least one factor"):
        ProbeConfig()
