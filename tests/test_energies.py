"""Energies and their arithmetic, the words for them, and the augmentations that CLIP looks through."""

import math

import pytest
import torch

from minidiff import energies, energy_words
from minidiff.augment import augment, cut_out, move, recolour
from minidiff.data.factors import COATS
from minidiff.energies import Energy, EnergyError, code_prior, custom, pixels
from minidiff.seeds import as_seeds, normal
from minidiff.worlds import read_images, write_pictures


def pictures(count=3, size=32, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


@pytest.fixture
def probe(tiny_load):
    probe = tiny_load("critters-probe")
    probe.mean.copy_(torch.linspace(-1, 1, len(probe.mean)))
    probe.std.copy_(torch.linspace(0.5, 2, len(probe.std)))
    return probe


@pytest.fixture
def clip(tiny_load):
    return tiny_load("critters-clip")


@pytest.fixture
def acquaintance(tiny_load):
    return tiny_load("critters-identity")


@pytest.fixture
def album(tmp_path):
    """A folder of two pictures, whose name has a space."""
    return [*write_pictures(pictures(2, seed=3), tmp_path / "an album")][0].parent


def mean_of(images, code):
    return images.flatten(1).mean(1)


def test_sums_and_weights():
    images, code = pictures(), normal(as_seeds(0, 3), (5,))
    a, b = custom(mean_of), code_prior()
    both = 3 * (2 * a + b) * 0.5
    torch.testing.assert_close(both(images, code), 3 * mean_of(images, code) + 1.5 * 0.5 * code.square().sum(1))
    assert [term.weight for term in both.terms] == [3.0, 1.5]
    assert [term.temperature for term in both.terms] == pytest.approx([1 / 3, 2 / 3])
    assert str(4 * a) == "4 * mean_of (temperature 0.25)" and str(Energy()) == "0"
    assert sum([a, b]) == a + b and (0 * a).terms[0].temperature == math.inf
    torch.testing.assert_close(both.parts(images, code)[:, 0], mean_of(images, code))
    assert torch.equal(Energy()(images, code), torch.zeros(3))
    for wrong in (lambda: a + 1.0, lambda: 1 + a, lambda: a * a):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError, match="weight: expected a number of at least 0, got -1.0 for 'mean_of'"):
        -1 * a


def test_pictures_without_a_code():
    images, bright = pictures(), energies.pixels(torch.ones(3, 32, 32))
    assert torch.equal((2 * bright)(images), (2 * bright)(images, torch.zeros(3, 5)))
    assert Energy()(images).tolist() == [0.0, 0.0, 0.0] and bright(images.double()).dtype == torch.float64
    assert bright(images.requires_grad_()).requires_grad
    with pytest.raises(ValueError, match="code: the code prior is an energy of codes; got pictures without theirs"):
        (bright + code_prior())(images)


def test_a_term_of_the_wrong_kind_is_named():
    images, code = pictures(), torch.zeros(3, 5)
    with pytest.raises(EnergyError, match=r"energy 'square': expected one number per picture, \(3,\), got \(3, 3"):
        (custom(mean_of) + custom(lambda images, code: images.square(), "square"))(images, code)
    with pytest.raises(EnergyError, match=r"energy 'logs': expected finite numbers, got -inf in chains \[0, 1, 2\]"):
        custom(lambda images, code: mean_of(images, code).mul(0).log(), "logs")(images, code)


def test_pixels_in_a_region():
    images, target, mask = pictures(), pictures(1, seed=1)[0], torch.zeros(1, 32, 32)
    mask[:, 4:9, :7] = 1
    expected = 0.5 * (images - target)[:, :, 4:9, :7].square().sum((1, 2, 3))
    torch.testing.assert_close(pixels(target, mask)(images, images), expected)
    torch.testing.assert_close(pixels(target)(images, images), 0.5 * (images - target).square().sum((1, 2, 3)))


def test_a_factor_is_what_the_probe_reads(probe):
    images, read = pictures(), probe.read(pictures())
    position = list(probe.config.numbers).index("tilt")
    expected = 0.5 * ((read["tilt"] - 0.3) / probe.std[position]) ** 2
    torch.testing.assert_close(energies.factor(probe, "tilt", 0.3)(images, images), expected, rtol=1e-4, atol=1e-6)
    before = sum(
        width for name, width in list(probe.config.numbers.items())[: list(probe.config.numbers).index("coat")]
    )
    colour, std = torch.tensor([0.9, 0.5, 0.2]), probe.std[before : before + 3]
    expected = 0.5 * ((read["coat"] - colour) / std).square().sum(1)
    torch.testing.assert_close(energies.factor(probe, "coat", colour)(images, images), expected, rtol=1e-4, atol=1e-6)


def test_a_class_costs_its_surprise(probe):
    images = pictures()
    _, logits = probe(images)
    for wanted in (0, 1, 2):
        expected = torch.nn.functional.cross_entropy(logits["species"], torch.full((3,), wanted), reduction="none")
        torch.testing.assert_close(energies.classifier(probe, "species", wanted)(images, images), expected)


def test_clip_without_copies_is_its_score(clip):
    from minidiff.evaluation.clip_scores import clip_score

    images, text = pictures(), "a smiling cat wearing glasses"
    torch.testing.assert_close(energies.clip(clip, text, 0)(images, images), 1 - clip_score(clip, images, text))


def test_clip_looks_at_copies_of_each_chains_own(clip):
    images, energy = pictures(), energies.clip(clip, "a sad dog", copies=4)
    together = energy(images, images, [5, 6, 7])
    assert torch.equal(together, energy(images, images, [5, 6, 7]))  # drawn once, kept: one function
    torch.testing.assert_close(energy(images[1:2], images[1:2], [6]), together[1:2])
    assert (energy(images, images, [15, 16, 17]) - together).abs().min() > 0
    with torch.no_grad():
        views = [augment(images[:1], [5], f"copy {k}") for k in range(4)]
        scores = [clip.encode_images(view.clamp(-1, 1)) @ clip.encode_text("a sad dog")[0] for view in views]
    torch.testing.assert_close(together[:1], 1 - torch.stack(scores).mean(0))


def test_an_individual_is_known_by_the_angle_to_its_pictures():
    references, images = pictures(2, seed=3), pictures()
    energy = energies.identity(lambda x: x.mean((2, 3)), references)
    vectors, known = (torch.nn.functional.normalize(x.mean((2, 3)), dim=1) for x in (images, references))
    torch.testing.assert_close(energy(images, images), 1 - (vectors @ known.T).mean(1))


def test_individuals_of_files_and_folders(acquaintance, album):
    images = pictures()
    for words, weight, files in (
        (f"identity: {album / '000001.png'}", energy_words.WEIGHTS["identity"], [album / "000001.png"]),
        (f"3 * identity :{album}", 3, [album / "000000.png", album / "000001.png"]),
    ):
        said = energy_words.energy(words, identity=acquaintance)
        meant = weight * energies.identity(acquaintance, read_images(files, (3, 32, 32)))
        torch.testing.assert_close(said(images, images), meant(images, images))
    both = energy_words.energy(f"identity: {album} + identity: {album / '000000.png'}", identity=acquaintance)
    assert [term.name for term in both.terms] == [f"identity: {album}", f"identity: {album / '000000.png'}"]
    (own,) = read_images([album / "000000.png"], (3, 32, 32))
    assert both.parts(own[None], own[None])[0, 1].abs() < 1e-5  # nobody is nearer to a picture than its own


def test_an_individual_s_energy_is_differentiable_and_blind_beyond_the_screen(acquaintance, album):
    energy = energy_words.energy(f"identity: {album}", identity=acquaintance)
    burnt = torch.where(pictures(2) > 0, 5.0, pictures(2)).requires_grad_()
    (gradient,) = torch.autograd.grad(energy(burnt, burnt).sum(), burnt)
    assert gradient.isfinite().all() and gradient.flatten(1).abs().sum(1).min() > 0
    assert gradient[burnt > 1].abs().max() == 0


def test_individuals_that_cannot_be_known(acquaintance, probe, album, tmp_path):
    with pytest.raises(FileNotFoundError, match="identity: expected a picture, .* there is no 'a cat'"):
        energy_words.energy("identity: a cat", identity="nobody")  # said before the network is looked for
    with pytest.raises(ValueError, match="identity: expected a network that knows individuals, .* got a Probe"):
        energy_words.energy(f"identity: {album}", identity=probe)
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(ValueError, match="notes.png is no image that can be read"):
        energy_words.energy(f"identity: {tmp_path / 'notes.png'}", identity=acquaintance)
    with pytest.raises(ValueError, match=r"this identity network sees \(B, 3, 32, 32\), got \(2, 3, 16, 16\)"):
        energy_words.energy(f"identity: {album}", identity=acquaintance)(pictures(2, 16), pictures(2, 16))
    with pytest.raises(ValueError, match="no attribute 'identity'; did you mean 'identity: PICTURE'"):
        energy_words.energy("identity", probe)


@pytest.mark.parametrize(
    "words", ["clip: a sad dog", "tilt = 0.3", "coat = orange", "glasses", "no hat", "species = dog"]
)
def test_every_kind_is_differentiable_and_blind_beyond_the_screen(probe, clip, words):
    energy = energy_words.energy(words, probe, clip, copies=2)
    images = pictures(2).requires_grad_()
    (gradient,) = torch.autograd.grad(energy(images, images).sum(), images)
    assert gradient.isfinite().all() and gradient.flatten(1).abs().sum(1).min() > 0
    if "clip" not in words:  # its copies are made before the screen
        burnt = torch.where(pictures(2) > 0, 5.0, pictures(2)).requires_grad_()
        (gradient,) = torch.autograd.grad(energy(burnt, burnt).sum(), burnt)
        assert gradient[burnt > 1].abs().max() == 0


def test_words_are_the_energies_they_say(probe, clip):
    images = pictures()
    said = energy_words.energy(
        "3 * clip: a cat wearing glasses + 0.5 * tilt = -0.3 + no glasses", probe, clip, copies=2
    )
    meant = 3 * energies.clip(clip, "a cat wearing glasses", 2) + 0.5 * energies.factor(probe, "tilt", -0.3)
    meant += energy_words.WEIGHTS["classifier"] * energies.classifier(probe, "glasses", 0)
    torch.testing.assert_close(said(images, images), meant(images, images))
    assert [term.name for term in said.terms] == ["clip: a cat wearing glasses", "tilt = -0.3", "no glasses"]
    orange, dog, red = (energy_words.energy(w, probe) for w in ("coat = orange", "species = dog", "hat_colour = red"))
    parts = energies.factor(probe, "coat", COATS["orange"]), energies.classifier(probe, "species", 1)
    torch.testing.assert_close(orange(images, images), 100 * parts[0](images, images))
    torch.testing.assert_close(dog(images, images), 5 * parts[1](images, images))
    torch.testing.assert_close(red(images, images), 5 * energies.classifier(probe, "hat_colour", 1)(images, images))


def test_only_the_networks_that_a_term_needs_are_loaded(monkeypatch, probe, clip, album):
    loaded = []
    monkeypatch.setattr(energy_words, "load", lambda name, device: loaded.append(name) or probe)
    monkeypatch.setattr(energy_words, "load_clip", lambda name, device: loaded.append(name) or clip)
    energy_words.energy("clip: a cat + clip: a dog", "someone", "else")
    assert loaded == ["else"]
    energy_words.energy("tilt = 0 + glasses", "someone", "else")
    assert loaded == ["else", "someone"]
    with pytest.raises(ValueError, match="got a Probe"):  # which is what this load gives for every name
        energy_words.energy(f"identity: {album}", "someone", "else", "third")
    assert loaded == ["else", "someone", "third"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "glases",
            "energy: no attribute 'glases'; did you mean 'glasses'\\? known are x, y, size, tilt, .* clip: TEXT",
        ),
        ("beard = long", "energy: no attribute 'beard'; known are x, y"),
        ("tilt", "energy: tilt is not a matter of yes and no; say tilt = NUMBER"),
        ("coat", r"say coat = orange \| brown"),
        ("species", r"say species = cat \| dog \| wild"),
        ("tilt = steep", "tilt: expected a number, got 'steep'"),
        ("tilt = nan", "tilt: expected 1 finite numbers, got nan"),
        ("species = cow", "species: expected one of cat, dog, wild, got 'cow'"),
        ("coat = striped", "coat: expected one of orange, .* got 'striped'"),
        ("glasses = 2", "glasses: expected one of no, yes, got '2'"),
        ("1.2.3 * glasses", "weight: expected a number, got '1.2.3'"),
        ("clip: a cat wearing glases", "no word 'glases' in the grammar; did you mean 'glasses'"),
        ("clip:", "energy: no attribute 'clip:'"),
        ("", "energy: no attribute ''"),
        ("glasses + ", "energy: no attribute ''"),
    ],
)
def test_words_that_are_not_understood(probe, clip, words, message):
    with pytest.raises(ValueError, match=message):
        energy_words.energy(words, probe, clip)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda probe, clip: energies.classifier(probe, "tilt"), "no attribute 'tilt'; .*known are species, pattern"),
        (lambda probe, clip: energies.classifier(probe, "glasses", 2), "glasses: expected a number from 0 to 1, got 2"),
        (lambda probe, clip: energies.factor(probe, "glasses", 1.0), "no attribute 'glasses'; .*known are x, y, size"),
        (lambda probe, clip: energies.factor(probe, "coat", 1.0), "coat: expected 3 finite numbers, got 1.0"),
        (lambda probe, clip: energies.clip(clip, "a cat", -1), "copies: expected 0 or more, got -1"),
    ],
)
def test_bad_input(probe, clip, call, message):
    with pytest.raises(ValueError, match=message):
        call(probe, clip)


def test_augmentations_are_per_item_in_range_and_differentiable():
    images = pictures(4).double().requires_grad_()
    together = augment(images, 7, "a")
    torch.testing.assert_close(augment(images[2:3], [9], "a"), together[2:3])
    assert (augment(images, 7, "b") - together).flatten(1).abs().amax(1).min() > 0.1
    small = pictures(1, size=8).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, 3), small)


def test_each_augmentation_does_what_it_says():
    images, half = pictures(1), torch.full((1, 3), 0.5)
    torch.testing.assert_close(recolour(images, half), images)  # the middle of each range changes nothing
    torch.testing.assert_close(move(images, half), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(recolour(images, torch.tensor([[1.0, 0.5, 0.5]])), images + 0.5)
    grey = recolour(images, torch.tensor([[0.5, 0.0, 0.5]]))
    torch.testing.assert_close(grey, images.mean(1, keepdim=True).expand_as(images))
    flat = recolour(images, torch.tensor([[0.5, 0.5, 0.0]]))
    torch.testing.assert_close(flat.std() / images.std(), torch.tensor(0.5), rtol=0.01, atol=0)
    moved = move(images, torch.tensor([[1.0, 0.5, 0.5]]))  # an eighth of 32 pixels is 4
    torch.testing.assert_close(moved[..., :-4], images[..., 4:], rtol=0, atol=1e-5)
    assert (moved[..., -4:] == 0).all()
    smaller = move(torch.ones(1, 1, 32, 32), torch.tensor([[0.5, 0.5, 0.0]]))  # resized to three quarters
    assert smaller.sum() == pytest.approx((0.75 * 32) ** 2, rel=0.01)
    cut = cut_out(torch.ones(1, 1, 32, 32), torch.tensor([[0.5, 0.25]]))
    assert (cut[..., 8:24, 0:16] == 0).all() and cut.sum() == 32 * 32 - 16 * 16
