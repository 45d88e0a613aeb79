"""The terminal face: commands do what they say, write what they name, and refuse bad input in one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import minidiff
from minidiff import cli, zoo
from minidiff.data.critters import NAMES, Critters
from minidiff.data.folder import ImageFolder
from minidiff.data.renderer import semantic_map
from minidiff.doctor import checks, healthy
from minidiff.fast import measure
from minidiff.worlds import held_out, read_images, read_layout, truth

COMMANDS = ("tour", "train", "sample", "translate", "edit", "guide", "reproduce", "export", "lab", "doctor", "data")


@pytest.fixture
def minidiff_says(monkeypatch, capsys, tmp_path):
    """Run `minidiff ARGS` in an empty folder; returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["minidiff", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return (stop.value.code or 0, *capsys.readouterr())

    return run


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_help_names_every_command_and_imports_nothing_heavy():
    script = "import sys; from minidiff import cli; sys.argv = ['minidiff', '--help']\ntry: cli.main()\n"
    script += "finally: print(sorted({'torch', 'PIL', 'matplotlib', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip().endswith("[]")
    assert all(f" {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", [(name,) for name in COMMANDS] + [("data", "fashion"), ("data", "critters")])
def test_every_command_explains_itself(minidiff_says, command):
    code, out, _ = minidiff_says(*command, "--help")
    assert code == 0 and "Usage: minidiff" in out


def test_version(minidiff_says):
    assert minidiff_says("--version") == (0, f"minidiff {minidiff.__version__}\n", "")


def test_the_console_script_is_installed():
    done = subprocess.run(
        [sys.executable, "-m", "minidiff.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("minidiff ")


def test_sample_writes_one_png(minidiff_says, tmp_path):
    code, out, _ = minidiff_says("sample", "critters-cat", "-n", 9, "--steps", 2, "--out", "deep/cats.png")
    assert code == 0 and out.startswith("Wrote deep/cats.png")
    width, height = size_of(tmp_path / "deep" / "cats.png")
    assert width > 8 * 64 and height > 2 * 64  # nine pictures in two rows


def test_translate_own_pictures(minidiff_says, tmp_path):
    """A file and a folder; the source row holds what was given."""
    code, _, _ = minidiff_says("data", "critters", "--out", "mine", "-n", 3, "--species", "cat", "--seed", 5)
    assert code == 0
    code, out, _ = minidiff_says("translate", "mine/cat/000000.png", "mine", "--steps", 4, "--strength", 0.5)
    assert code == 0 and out == "Wrote translation.png, from the top: critters-cat, cyclediffusion\n"
    assert size_of(tmp_path / "translation.png")[0] > 4 * 64


@pytest.mark.parametrize("method", ["cyclediffusion", "sdedit", "ddib"])
def test_translate_the_world_shows_the_truth(minidiff_says, tmp_path, method):
    code, out, _ = minidiff_says("translate", "--method", method, "-n", 2, "--steps", 3, "--out", f"{method}.png")
    assert code == 0 and out.endswith(f"from the top: critters-cat, {method}, truth\n")
    assert (tmp_path / f"{method}.png").exists()


def test_translate_real_shoes(minidiff_says):
    code, out, _ = minidiff_says(
        "translate", "--from", "fashion-sneaker", "--to", "fashion-boot", "-n", 2, "--steps", 3
    )
    assert code == 0 and out.endswith("from the top: fashion-sneaker, cyclediffusion\n")  # the real world has no truth


@pytest.fixture
def told(monkeypatch, tiny_load):
    monkeypatch.setattr("minidiff.load", lambda name, device: tiny_load(name, 64), raising=False)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--control", "refine", "--cross-part", "1", "--self-part", "0"),
        ("--method", "sdedit"),
        ("--trajectory", "independent"),
        ("--negative", "a cat", "--interval", "0", "0.8"),
    ],
)
def test_edit_by_words(minidiff_says, told, tmp_path, options):
    code, out, err = minidiff_says("edit", "-n", 2, "--steps", 4, "--target", "a sad dog on a red background", *options)
    assert (code, out) == (0, "Wrote edit.png, from the top: source, edit\n"), err
    assert size_of(tmp_path / "edit.png")[0] > 2 * 64


def test_edit_own_pictures_needs_to_know_what_is_in_them(minidiff_says, told, tmp_path):
    minidiff_says("data", "critters", "--out", "mine", "-n", 1, "--species", "cat")
    code, _, err = minidiff_says("edit", "mine/cat/000000.png", "--target", "a dog")
    assert code == 2 and "--source: say what is in the picture" in err
    code, _, err = minidiff_says("edit", "mine", "--source", "a catt", "--target", "a dog")
    assert code == 2 and "no word 'catt' in the grammar; did you mean 'cat'" in err
    code, _, _ = minidiff_says("edit", "mine", "--source", "a cat", "--target", "a dog", "--steps", 4, "-o", "dog.png")
    assert code == 0 and (tmp_path / "dog.png").exists()


def test_sample_to_a_caption(minidiff_says, told, tmp_path):
    words = ("--text", "a smiling cat wearing glasses", "--scale", 2, "--negative", "a sad cat")
    code, _, err = minidiff_says("sample", "critters-text", "-n", 2, "--steps", 2, *words)
    assert code == 0 and (tmp_path / "sample.png").exists(), err
    code, _, _ = minidiff_says("sample", "critters-text", "-n", 2, "--steps", 2, "-o", "nothing.png")
    assert code == 0
    code, _, err = minidiff_says("sample", "critters-cat", "-n", 2, "--steps", 2, "--text", "a cat")
    assert code == 2 and "text: this model was not trained with captions" in err


@pytest.fixture
def conditions(minidiff_says):
    """Files to tell a model: a picture, its map, a small one, a mask."""
    assert minidiff_says("data", "critters", "-o", "mine", "-n", 1, "--layouts", "maps")[0] == 0
    with Image.open("mine/cat/000000.png") as picture:
        picture.resize((16, 16)).save("small.png")
    mask = np.full((64, 64), 255, np.uint8)
    mask[10:40, 20:50] = 0
    Image.fromarray(mask).save("mask.png")
    Image.fromarray(mask // 2).save("grey.png")
    return {"picture": "mine/cat/000000.png", "map": "maps/cat/000000.png", "small": "small.png", "mask": "mask.png"}


def test_sample_to_maps_species_and_captions(minidiff_says, told, conditions):
    words = ("--text", "a sad cat", "--scale", 2, "--interval", 0.1, 0.9)
    for options in (
        ("--label", "dog"),
        ("--layout", conditions["map"]),
        ("--layout", conditions["map"], *words),
        ("--low-res", conditions["small"]),
        ("--blurred", conditions["picture"], "--label", "wild", "--scale", 1.5),
        ("--known", conditions["picture"], "--mask", conditions["mask"], *words),
    ):
        code, out, err = minidiff_says("sample", "critters-maps", "-n", 2, "--steps", 2, *options)
        assert (code, out) == (0, "Wrote sample.png\n"), err
    with Image.open("sample.png") as both, Image.open(conditions["picture"]) as picture:
        tile = both.crop((4, 4, 132, 132)).resize((64, 64), Image.Resampling.BOX)  # drawn at twice its size
        apart = np.abs(np.asarray(tile, int) - np.asarray(picture.convert("RGB"), int)).max(2)
    assert apart[10:40, 20:50].mean() > 20 * apart[:8].mean()  # enlarged and shrunk, so nearly


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--label", "fox"), "--label: expected one of cat, dog, wild, got 'fox'"),
        (("--layout", "small.png"), "small.png: expected 64 x 64 pixels, got 16 x 16"),
        (("--layout", "mine/cat/000000.png"), "mine/cat/000000.png: expected the colours of minidiff's maps only"),
        (("--layout", "mask.png"), "layout: expected part numbers 0 to 10, got 0 to 255"),
        (("--layout", "no.png"), "no.png"),
        (("--known", "small.png"), "known, mask: a picture with a hole takes both"),
        (("--known", "mine/cat/000000.png", "--mask", "grey.png"), "grey.png: expected only black (to be painted)"),
        (("--known", "mine/cat/000000.png", "--mask", "small.png"), "small.png: expected 64 x 64 pixels"),
        (("--text", "a cat", "--scale", "nan"), "scale: expected a finite number"),
        (("--text", "a cat", "--scale", "2", "--interval", "0.9", "0.1"), "interval: expected (low, high)"),
        (("--text", "a kitten"), "no word 'kitten' in the grammar; did you mean 'baby cat'?"),
        (("--text", "a big cat"), "no word 'big' in the grammar; did you mean 'wearing'? Known are orange, cat, on"),
        (("--text", "a sad cat " * 7), "a caption of 21 words, but there is room for 18"),
    ],
)
def test_conditions_that_make_no_sense_are_refused_in_one_line(minidiff_says, told, conditions, options, message):
    code, _, err = minidiff_says("sample", "critters-maps", "-n", 1, "--steps", 2, *options)
    assert code == 2 and message in err and err.count("\n") == 1 and not Path("sample.png").exists()


def test_models_are_not_told_what_they_do_not_take(minidiff_says, told, conditions):
    code, _, err = minidiff_says("sample", "critters-text", "--layout", conditions["map"])
    assert code == 2 and "layout: this model takes no pictures as a condition" in err
    code, _, err = minidiff_says("sample", "critters-gan", "--label", "cat")
    assert code == 2 and "condition: a GAN takes no condition" in err


def test_layouts_as_files_are_the_layouts(minidiff_says, tmp_path):
    minidiff_says("data", "critters", "-o", "mine", "-n", 2, "--species", "dog", "--seed", 3, "--layouts", "maps")
    world = Critters("dog", length=2, seed=3)
    exact = semantic_map(world.factors(slice(2)), 64)
    assert torch.equal(read_layout(tmp_path / "maps" / "dog" / "000001.png", 64), exact[1:])
    with Image.open(tmp_path / "maps" / "dog" / "000000.png") as image:
        image.convert("RGB").save(tmp_path / "colours.png")
    assert torch.equal(read_layout(tmp_path / "colours.png", 64), exact[:1])


def test_candidates_of_an_edit(minidiff_says, judged, tmp_path):
    """The cost comes first, the unselected figure stands beside the selected one, every candidate has its line."""
    words = ("--source", "a cat", "--target", "a sad dog", "--candidates")
    minidiff_says("data", "critters", "--out", "mine", "-n", 1, "--species", "cat")
    code, out, err = minidiff_says("edit", "mine", *words, "--steps", 4, "--seed", 5)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("75 candidates a picture, ") and lines[0].endswith(" network calls, for 1 picture")
    assert lines[1].startswith("Directional CLIP: the best ") and "one taken at random" in lines[1]
    assert lines[-1] == "Wrote edit.png, from the top: source, best, middle"
    rows = (tmp_path / "edit.csv").read_text().splitlines()
    assert len(rows) == 76 and rows[0] == "picture,rank,strength,scale,seed,directional_clip"
    assert {row.split(",")[4] for row in rows[1:]} == {"5", "6", "7"}
    code, _, err = minidiff_says(
        "edit", "mine", "--source", "a cat", "--target", "a cat", "--candidates", "-o", "b.png"
    )
    assert code == 2 and "captions: the edited one is as before" in err and not (tmp_path / "b.png").exists()


@pytest.fixture
def judged(told, monkeypatch, tiny_load):
    """Tiny untrained models for every name: one to guide, and its judges."""
    monkeypatch.setattr("minidiff.energy_words.load", lambda name, device: tiny_load(name, 64))
    monkeypatch.setattr("minidiff.energy_words.load_clip", lambda name, device: tiny_load(name, 64))
    monkeypatch.setattr("minidiff.zoo.load_clip", lambda name, device: tiny_load(name, 64))


WISH = ("--energy", "200 * tilt = 0.3", "--energy", "clip: a sad cat", "--copies", 2, "-n", 2, "--steps", 3)


def test_guide_says_the_mean_energies(minidiff_says, judged, tmp_path):
    code, out, err = minidiff_says("guide", *WISH, "--adjusted", "--eta", 0.1, "--out", "deep/wish.png")
    assert code == 0, err
    tilt, clip, prior, accepted, wrote = out.splitlines()
    assert tilt.startswith("200 * tilt = 0.3 (temperature 0.005): mean E ") and tilt.endswith(" at the end")
    assert clip.startswith("500 * clip: a sad cat (temperature 0.002): mean E ")
    assert prior.startswith("0.5 |code|^2: ") and prior.endswith(f"{4 * 4 * 8 * 8 // 2} is usual")  # four blocks move
    assert accepted.startswith("Accepted ") and wrote == "Wrote deep/wish.png, from the top: start, end"
    assert size_of(tmp_path / "deep" / "wish.png")[1] > 2 * 64 and len(list((tmp_path / "deep").iterdir())) == 1


def test_guide_towards_an_individual(minidiff_says, judged, tmp_path):
    minidiff_says("data", "critters", "--out", "world", "-n", 1)
    someone = next((tmp_path / "world").rglob("*.png")).relative_to(tmp_path)
    code, out, err = minidiff_says("guide", "--energy", f"identity: {someone}", "-n", 2, "--steps", 2)
    assert code == 0 and out.startswith(f"500 * identity: {someone} (temperature 0.002): mean E "), err
    code, _, err = minidiff_says("guide", "--energy", "identity: nobody.png", "--out", "other.png")
    assert code == 2 and "there is no 'nobody.png'" in err and not (tmp_path / "other.png").exists()


def test_a_stopped_guide_goes_on_and_ends_the_same(minidiff_says, judged, monkeypatch, tmp_path):
    from minidiff import guide_run

    whole = minidiff_says("guide", *WISH, "--out", "whole.png")
    state = guide_run.show

    def stopped(chain):
        for step in state(chain):
            if step.step == 2:
                raise OSError("the plug was pulled")
            yield step

    monkeypatch.setattr(guide_run, "show", stopped)
    code, _, err = minidiff_says("guide", *WISH, "--out", "parts.png")
    assert code == 2 and "plug" in err and (tmp_path / "parts.png.chain").exists()
    monkeypatch.setattr(guide_run, "show", state)
    code, _, err = minidiff_says("guide", *WISH, "--seed", 1, "--out", "parts.png")
    assert code == 2 and "parts.png.chain holds a run with {'seeds': 0}, not {'seeds': 1}" in err
    calls = []
    monkeypatch.setattr(
        guide_run, "show", lambda chain: calls.append(1) or map(lambda s: calls.append(s.step) or s, chain)
    )
    parts = minidiff_says("guide", *WISH, "--out", "parts.png")
    assert calls == [1, 2, 3] and parts[1] == whole[1].replace("whole", "parts")
    assert (tmp_path / "parts.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    assert not (tmp_path / "parts.png.chain").exists()


def test_guide_refuses_in_one_line(minidiff_says, judged, tmp_path):
    for arguments, message in (
        (("--energy", "glases"), "energy: no attribute 'glases'; did you mean 'glasses'? known are"),
        (("--energy", "glasses", "--step-size", 0), "step_size: expected a number between 0 and 4, got 0.0"),
        (("--energy", "glasses", "--gradient-steps", 2, "--eta", 0.5), "gradient_steps: only a sampler with eta = 0"),
        (("--energy", "glasses", "--out", "wish.jpg"), "--out: expected the name of a .png file"),
    ):
        code, _, err = minidiff_says("guide", *arguments)
        assert code == 2 and message in err and err.count("\n") == 1 and list(tmp_path.iterdir()) == []
    code, out, err = minidiff_says("guide", *WISH, "--sampler-steps", 8, "--gradient-steps", 2)  # eta = 0: a block
    assert code == 0 and f"{4 * 8 * 8 // 2} is usual" in out and "Accepted" not in out, err


def test_any_family_is_sampled_and_guided(minidiff_says, judged, tmp_path):
    for arguments in (("critters-gan", "--psi", 0.5), ("critters-diffae", "--steps", 3), ("critters-vae",)):
        code, _, err = minidiff_says("sample", *arguments, "-n", 2, "--out", f"{arguments[0]}.png")
        assert code == 0 and size_of(tmp_path / f"{arguments[0]}.png")[1] > 64, err
    for name, numbers in (("critters-gan", 8), ("critters-diffae", 16 + 4 * 8 * 8)):
        code, out, err = minidiff_says("guide", "--model", name, *WISH)
        assert code == 0 and f"{numbers // 2} is usual" in out and (tmp_path / "guide.png").exists(), err


def test_fast_pictures_are_the_same(minidiff_says, judged, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(measure, "SIZES", (1,))
    monkeypatch.setattr(measure, "known", {})
    ways = [("sample", "critters-diffae", "--steps", 3), ("translate", "--steps", 4, "--strength", 0.5, "-n", 2)]
    for way in (*ways, ("sample", "critters-gan")):
        found = []
        for more in ((), ("--fast",)):
            code, _, err = minidiff_says(*way, *more, "--out", "picture.png")
            assert code == 0, err
            with Image.open(tmp_path / "picture.png") as picture:
                found.append(np.asarray(picture).astype(int))
        assert abs(found[0] - found[1]).max() <= 1


def test_settings_that_a_family_does_not_have_are_refused(minidiff_says, judged, tmp_path):
    for arguments, message in (
        (("sample", "critters-vae", "--steps", 3, "--eta", 0), "critters-vae is a VAE, which has no eta and no steps"),
        (("sample", "critters-gan", "--psi", 2), "psi: expected a number in [0, 1], got 2"),
        (("sample", "critters-flow", "--text", "a cat"), "text: a Flow takes no condition"),
        (
            ("guide", "--energy", "glasses", "--model", "critters-gan", "--gradient-steps", 2),
            "gradient_steps: only a sampler with eta = 0",
        ),
        (
            ("translate", "--from", "critters-gan"),
            "critters-gan is a GAN: expected a diffusion model such as critters-cat",
        ),
        (("sample", "critters-probe"), "critters-probe is a probe: expected a generator such as critters-cat"),
    ):
        code, _, err = minidiff_says(*arguments)
        assert code == 2 and message in err and list(tmp_path.iterdir()) == []


def test_critters_as_files_are_the_critters(minidiff_says, tmp_path):
    code, out, _ = minidiff_says("data", "critters", "--out", "world", "-n", 3, "--seed", 4, "--size", 48)
    assert code == 0 and out == f"Wrote {3 * len(NAMES)} pictures into world\n"
    folder = ImageFolder(tmp_path / "world", size=48)
    assert folder.classes == tuple(sorted(NAMES))
    for label, name in enumerate(folder.classes):
        drawn = Critters(name, length=3, seed=4, size=48)[:]
        torch.testing.assert_close(folder[folder.labels == label], drawn, rtol=0, atol=0.51 / 127.5)


def test_data_fashion_says_where_it_is(minidiff_says, monkeypatch, tmp_path):
    from minidiff.data import fashion_files

    monkeypatch.setattr(fashion_files, "DEBIAN", tmp_path)
    monkeypatch.setattr(fashion_files, "SOURCE", "http://127.0.0.1:9/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("MINIDIFF_DATA", raising=False)
    code, _, err = minidiff_says("data", "fashion")
    assert code == 2 and "dataset-fashion-mnist" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "critters-catt"), "did you mean 'critters-cat'?"),
        (("sample", "critters-autoencoder"), "critters-autoencoder is a autoencoder: expected a generator"),
        (("sample", "critters-cat", "--out", "cat.jpg"), "--out: expected the name of a .png file, got cat.jpg"),
        (("sample", "critters-cat", "--eta", "2"), "eta"),
        (("translate", "--strength", "0"), "strength: expected a number in (0, 1]"),
        (("translate", "--eta", "0"), "ddib"),
        (("translate", "nothing.png"), "nothing.png"),
        (("translate", "--to", "fashion-boot"), "source, target: expected the same latent shape"),
        (("train", "critters-cow"), "none for 'critters-cow'"),
        (("reproduce", "everything"), "everything"),
        (("data", "critters", "--species", "fox"), "there is no 'fox'; known species are cat, dog, wild"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(minidiff_says, tmp_path, arguments, message):
    code, _, err = minidiff_says(*arguments)
    assert code == 2 and message in err and err.startswith("minidiff: ") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_picture_is_named_before_any_work(minidiff_says, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cat.jpg")
    (tmp_path / "cat.jpg").write_bytes((tmp_path / "cat.jpg").read_bytes()[:900])
    code, _, err = minidiff_says("translate", "cat.jpg")
    assert code == 2 and "cat.jpg is truncated or damaged" in err
    assert [path.name for path in tmp_path.iterdir()] == ["cat.jpg"]


def test_debug_shows_the_traceback(minidiff_says, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["minidiff", "--debug", "sample", "critters-cow"])
    with pytest.raises(ValueError, match="critters-cow"):
        cli.main()


def test_reproduce_lists_the_studies(minidiff_says):
    code, out, _ = minidiff_says("reproduce")
    assert code == 0 and {"translation", "fashion"} <= {line.split()[0] for line in out.splitlines()}


def test_held_out_pictures_are_of_the_models_world():
    assert held_out("critters-dog").species == "dog" and held_out("critters-dog").seed == 2
    assert held_out("study-pixels").shape == (3, 32, 32)
    assert held_out("fashion-boot").classes == ("ankle-boot",) and len(held_out("fashion-boot")) == 64


def test_truth_is_the_same_animal_as_another_species():
    cats, dogs = held_out("critters-cat")[:4], truth("critters-cat", "critters-dog", 4)
    assert dogs.shape == cats.shape and (dogs - cats).abs().mean() > 0.01
    torch.testing.assert_close(truth("critters-cat", "critters-cat", 4), cats)
    assert truth("fashion-sneaker", "fashion-boot", 4) is None


def test_read_images_in_the_shape_of_a_model(tmp_path):
    Image.new("RGB", (100, 60), (255, 0, 0)).save(tmp_path / "a.png")
    assert read_images([tmp_path / "a.png", tmp_path], (1, 32, 32)).shape == (2, 1, 32, 32)


def test_the_example_of_the_readme_runs_and_has_ten_lines(monkeypatch, tmp_path):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    example = text.partition("```python\n")[2].partition("```")[0]
    lines = [line for line in example.splitlines() if line and not line.startswith(("import", "from", "assert"))]
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "dogs.png").exists() and len(lines) <= 10


def test_doctor_finds_a_healthy_installation(minidiff_says):
    code, out, _ = minidiff_says("doctor")
    assert code == 0 and out.count("\n") == len(list(checks())) and "FAULT" not in out


def test_doctor_names_a_damaged_model(monkeypatch, tmp_path):
    name, entry = next(iter(zoo.manifest().items()))
    (tmp_path / entry["file"]).write_bytes((zoo.WEIGHTS / entry["file"]).read_bytes()[:-1] + b"x")
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    monkeypatch.setattr(zoo, "manifest", lambda: {name: entry})
    weights = next(check for check in checks() if check.name == "weights")
    assert weights.state == "fault" and entry["file"] in weights.found and not healthy([weights])


def test_a_first_picture_is_made():
    picture = next(check for check in checks() if check.name == "first picture")
    assert picture.state == "ok" and "(3, 64, 64)" in picture.found
