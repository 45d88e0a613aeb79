"""The study of rare groups and individuals: on untrained models, and its parts where the answer is known."""

import pytest
import torch

from minidiff import energies
from minidiff.data.critters import RARE_RATES
from minidiff.evaluation import results
from minidiff.evaluation.prevalence import Count
from minidiff.evaluation.studies import coverage, reproduce
from minidiff.evaluation.studies.individuals import gallery, mean_vectors, towards
from minidiff.evaluation.studies.rare_world import GROUPS, Errors, RareWorld, errors_of, generators
from minidiff.evaluation.studies.steered import best_of, looks, steered
from minidiff.zoo import UnknownModel

WORLD = RareWorld(RARE_RATES, 50, 16)
SMALL = {
    "models": ("critters-latents", "critters-gan", "critters-nothing"),
    "n": 12, "judge": 40, "members": 10, "steps": 4, "chains": 3,
    "step_sizes": (0.02,), "person_step_sizes": (0.02,), "individuals": 4, "references": 2,
    "calls": 6, "more_calls": 12, "candidates": 1, "gradient_steps": 2, "tuning": 2, "copies": 0,
    "population": 9,
}  # fmt: skip


class Truth(torch.nn.Module):
    """A recogniser that sees the mean colour: enough to test by."""

    def forward(self, images):
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=1)


@pytest.fixture
def zoo_without(tiny_load):
    """A zoo in which one of the models is missing."""

    def load(name):
        if name == "critters-nothing":
            raise UnknownModel(name)
        return tiny_load(name)

    return load


def test_coverage(zoo_without, tmp_path):
    found = results.read("coverage", reproduce("coverage", quick=True, out=tmp_path, load=zoo_without, **SMALL).parent)
    assert found["rates/truth/glasses"].value == 0.02 and found["rates/critters-latents/hat_read"].n == 12
    assert found["rates/probe, spared/glasses"].n > 30 and found["rates/probe, caught/baby"].n == 10
    for name in ("critters-latents", "critters-gan, psi 1", "critters-gan, psi 0.7"):
        assert found[f"crowd/{name}/coverage"].n == 12
    for name in ("critters-latents", "critters-gan, psi 1"):
        assert found[f"guided/{name}/glasses/success"].n == 3
        assert found[f"guided/{name}/hat/calls"].value == found[f"individuals/{name}/calls"].value == 6
        assert found[f"individuals/{name}/reached"].n == 4
    names = {row.name for row in found.rows}
    assert not any(
        name.startswith(("guided/critters-gan, psi 0.7", "individuals/critters-gan, psi 0.7")) for name in names
    )
    assert found["guided/critters-latents at 12 calls/glasses/calls"].value == 12
    assert found["individuals/critters-latents at 12 calls/reached"].n == 4
    assert not any(name.startswith("guided/critters-gan, psi 1 at") for name in names)
    assert found["individuals/true pictures/reached"].value >= 0.5
    assert found["individuals/true pictures/median"].n == 4
    assert found["guided/critters-gan, psi 1/step_size"].value == 0.02
    for name, table in found.tables.items():
        assert "| critters-nothing" in (text := results.markdown_table(found.rows, table)), name
        assert "(not in the zoo)" in text
    files = {"coverage.json", "coverage.csv", "coverage-rates.svg", "coverage-reach.svg", "coverage-examples.png"}
    assert {file.name for file in tmp_path.iterdir()} == files


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"models": ("critters-nothing",)}, "models: the zoo has none of critters-nothing"),
        ({"calls": 3}, "calls: expected at least 4 for 2 looks of 2 network calls, got 3"),
        ({"population": 5}, "population: expected at least 4 \\+ 2 individuals, got 5"),
        ({"tuning": 1}, "individuals, tuning: expected at least 2"),
    ],
)
def test_bad_settings_are_refused_before_any_work(zoo_without, tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        reproduce("coverage", quick=True, out=tmp_path, **(SMALL | {"load": zoo_without} | wrong))
    assert not list(tmp_path.iterdir())


def test_every_family_can_take_part(tiny_load):
    names = [f"critters-{kind}" for kind in ("latents", "gan", "vae", "flow", "ddgan", "diffae")]
    found = generators(names, (1.0,), 4, tiny_load)
    assert found["critters-latents"].eta == 0 and found["critters-diffae"].steps == 4
    calls = {name.split(",")[0]: looks(model, 24, 2) for name, model in found.items()}
    assert calls == {
        "critters-latents": (11, 2), "critters-gan": (23, None), "critters-vae": (23, None), "critters-flow": (23, None),
        "critters-ddgan": (7, None), "critters-diffae": (5, 2),
    }  # fmt: skip


def test_steering_goes_downhill_and_a_chain_is_its_own(tiny_load):
    model = tiny_load("critters-vae")
    energy = energies.pixels(torch.zeros(3, 32, 32))
    settings = {"calls": 31, "gradient_steps": 2, "step_size": 0.02, "seeds": 7}
    images, cost = steered(model, energy, 5, batch=2, **settings)
    plain = model.sample(5, 7)
    assert images.square().mean() < plain.square().mean() and cost["calls"].estimate.value == 31
    torch.testing.assert_close(steered(model, energy, 5, batch=5, **settings)[0], images, rtol=1e-4, atol=1e-4)


def test_a_chain_settles_when_its_steps_shrink(tiny_load):
    model, energy = tiny_load("critters-vae"), energies.pixels(torch.zeros(3, 32, 32)) * 10.0
    settings = {"calls": 201, "gradient_steps": 2, "step_size": 0.1, "seeds": 7}
    noisy, settled = (steered(model, energy, 20, last_step_size=last, **settings)[0] for last in (None, 0.001))
    assert settled.square().mean() < 0.8 * noisy.square().mean()


def test_a_chain_that_fails_ends_at_its_last_good_state(tiny_load):
    model, seen = tiny_load("critters-vae"), []

    def worse_and_worse(images, code):
        seen.append(1)
        return images.flatten(1).sum(1) * (torch.nan if len(seen) > 3 else 1)

    images, _ = steered(model, energies.custom(worse_and_worse), 2, 20, 2, 0.01, 0)
    assert images.isfinite().all() and len(seen) == 4


def test_the_only_step_size_is_not_tried():
    assert best_of((0.1,), lambda h: 1 / 0) == 0.1 and best_of((0.1, 0.2), lambda h: h) == 0.2


def test_the_step_size_is_chosen_by_what_the_chains_reach(tiny_load):
    model, budget = tiny_load("critters-vae"), {"calls": 30, "gradient_steps": 2}
    people = gallery(Truth(), tiny_load("critters-probe"), RareWorld(RARE_RATES, 50, 32), torch.arange(4), 2)
    still, steps = (coverage.person_worth(model, people, 100.0, budget, size) for size in (1e-6, 0.02))
    assert still < steps
    probe, never = tiny_load("critters-probe"), energies.pixels(torch.zeros(3, 32, 32)) * 0.0
    assert 0 <= coverage.group_worth(model, probe, {"hat": never, "baby": never}, 2, budget, 0.02) <= 1


def test_rates_are_corrected():
    errors = Errors({g: Count(90, 100) for g in GROUPS}, {g: Count(99, 100) for g in GROUPS})
    read = {group: torch.arange(1000) < 36 for group in GROUPS} | {"features": torch.randn(1000, 4)}
    found = {row.name: row for row in coverage.plain_rows("x", read, errors, torch.randn(1000, 4))}
    assert found["rates/x/hat_read"].value == 0.036
    assert found["rates/x/hat"].value == pytest.approx((0.036 - 0.01) / 0.89, rel=1e-4)
    low, high = found["rates/x/hat"].interval
    assert low < found["rates/x/hat"].value < high


def test_the_world_knows_its_rates_and_its_people(tiny_load):
    assert WORLD.rate("hat") == 0.01 and WORLD.rate("baby") in {i / 50 for i in range(50)}
    who = torch.tensor([3, 8])
    factors = WORLD.individuals(who, 3, 0)
    assert factors.individual.tolist() == [3, 3, 3, 8, 8, 8] and not factors.glasses.any()
    assert factors.coat[:3].unique(dim=0).shape == (1, 3) and factors.x.unique().numel() == 6
    assert not torch.equal(factors.x, WORLD.individuals(who, 3, 1).x)
    world = RareWorld(RARE_RATES, None, 32)
    _, known = world.pictures(30)
    read = {group: getattr(known, group).long() for group in GROUPS}
    errors = errors_of(tiny_load("critters-probe"), world, read, known, 5)
    assert all(count.hits == count.n for count in errors.spared.values())
    assert world.members("glasses", 4, "cat").shape == (4, 3, 32, 32)


def test_identity_is_the_energy_of_the_package_for_each_chain(tiny_load):
    images = 2 * torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 1
    wanted = mean_vectors(Truth(), images[:6], 3)
    ours = towards(Truth(), wanted)(images[6:], torch.zeros(2, 1))
    theirs = [
        energies.identity(Truth(), images[3 * i : 3 * i + 3])(images[6 + i : 7 + i], torch.zeros(1, 1)) for i in (0, 1)
    ]
    torch.testing.assert_close(ours, torch.cat(theirs))


def test_half_of_the_true_pictures_reach_by_definition(tiny_load):
    people = gallery(Truth(), tiny_load("critters-probe"), RareWorld(RARE_RATES, 50, 32), torch.arange(40), 2)
    marks = people.marks(people.pictures)
    assert 0.5 <= marks["reached"].estimate.value <= 0.55 and marks["cosine"].estimate.n == 40
    strangers = torch.stack([people.cosines(people.pictures.roll(k, 0)) for k in range(1, 40)])
    assert (strangers > people.threshold).double().mean() == pytest.approx(0.01, abs=0.002)
