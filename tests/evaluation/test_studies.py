"""Studies run from end to end on untrained models: every file is written, and nothing is when something is wrong."""

import re

import pytest

from minidiff.evaluation import results, studies
from minidiff.evaluation.studies import reproduce

SMALL = {"steps": 4, "strengths": (0.5, 1.0), "etas": (0.5,), "refines": (0.0,), "n": 8}


def test_translation_writes_figures_tables_charts_and_pictures(tmp_path, tiny_load):
    settings = SMALL | {"tuning": 4, "crowd": 10, "cases": ("cat-dog",), "load": tiny_load}
    path = reproduce("translation", quick=True, out=tmp_path, **settings)
    found = results.read("translation", path.parent)
    assert found.quick and "reproduce('translation', quick=True, steps=4, strengths=(0.5, 1.0)" in found.command
    assert found.settings["strengths"] == [0.5, 1.0]
    assert {file.name for file in tmp_path.iterdir()} == {
        "translation.json", "translation.csv", "translation-cat-dog.png",
        "translation-cat-dog-strength.svg", "translation-cat-dog-factors.svg",
    }  # fmt: skip

    sdedit = found["cat-dog/grid/sdedit/strength 0.5/eta 1/calls"]
    assert (sdedit.value, sdedit.n, sdedit.seed) == (2, 8, 2)
    assert found["cat-dog/tuning/ddib/strength 0.5/eta 0/success"].n == 4
    assert not any("tuning/ddib/strength 1/" in row.name for row in found.rows)
    assert found["cat-dog/best/truth/psnr_truth"].value is None  # infinite
    assert found["cat-dog/best/copy/psnr_truth"].value > 5
    assert found["cat-dog/ahead/sdedit/strength 0.5/eta 0.5/psnr_truth"].interval is not None
    for table in found.tables.values():
        text = results.markdown_table(found.rows, table)
        assert re.search(r"\| SDEdit", text)
        assert "CycleDiffusion" in text
    svg = (tmp_path / "translation-cat-dog-factors.svg").read_text()
    assert 'role="img"' in svg and "CycleDiffusion: background" in svg


def test_best_is_one_of_the_grid(tmp_path, tiny_load):
    settings = SMALL | {"tuning": 4, "split": "subset", "load": tiny_load}
    found = results.read("fashion", reproduce("fashion", quick=True, out=tmp_path, **settings).parent)
    strength, eta = (found[f"sneaker-boot/best/cyclediffusion/{key}"].value for key in ("strength", "eta"))
    grid = found[f"sneaker-boot/grid/cyclediffusion/strength {strength:g}/eta {eta:g}/psnr_source"]
    assert grid.value == found["sneaker-boot/best/cyclediffusion/psnr_source"].value
    assert found["sneaker-boot/best/real/success"].n == 8
    assert (tmp_path / "fashion-examples.png").exists()


def test_dpm_encoder_is_exact_with_networks_that_know_nothing(tmp_path, tiny_load):
    settings = {"n": 4, "round_trips": 2, "steps": 6, "etas": (0.01, 1.0), "split": "subset", "load": tiny_load}
    found = results.read("reconstruction", reproduce("reconstruction", quick=True, out=tmp_path, **settings).parent)
    for world in ("critters", "fashion"):
        for net in ("trained", "untrained"):
            for eta in ("0.01", "1"):
                single, double = (
                    found[f"{world}/{net}/{dtype}/eta {eta}/round_trip"] for dtype in ("float32", "float64")
                )
                assert single.value <= 1e-5
                assert double.value <= 1e-12
    assert found["critters/autoencoder/psnr"].n == 4
    assert found["critters/trained/float64/eta 1/identity"].value < 1e-10


def test_an_untrained_denoiser_still_says_something(tiny_load):
    import torch

    model = studies.reconstruction._untrained(tiny_load("critters-cat"))
    x = torch.randn(2, *model.latent_shape)
    output = model.denoiser.net(x, torch.tensor([10, 900]))
    assert 0.05 < output.std() < 50
    assert not torch.allclose(output[0], output[1])


def test_bad_input_is_refused_before_any_work(tmp_path, tiny_load):
    with pytest.raises(ValueError, match=f"name: expected one of {', '.join(studies.STUDIES)}, got 'x'"):
        reproduce("x", out=tmp_path)
    with pytest.raises(ValueError, match="translation has no setting stps; it has n, tuning"):
        reproduce("translation", out=tmp_path, stps=3)
    with pytest.raises(ValueError, match="there are 64 sneakers in 'subset'"):
        reproduce("fashion", quick=True, out=tmp_path, split="subset", n=60, load=tiny_load)
    assert not list(tmp_path.iterdir())


def test_the_command_is_the_one_to_type():
    assert studies._command("fashion", False, {}) == "minidiff reproduce fashion"
    assert studies._command("fashion", True, {"load": print}) == "minidiff reproduce fashion --quick"
    assert studies._command("fashion", False, {"n": 9}) == "minidiff.evaluation.studies.reproduce('fashion', n=9)"


def test_a_quick_run_spares_a_full_one_before_any_work(tmp_path):
    results.write(results.Results("fashion", "minidiff reproduce fashion", []), tmp_path)

    def load(name):
        raise AssertionError("work began")

    with pytest.raises(ValueError, match="holds a full run"):
        reproduce("fashion", quick=True, out=tmp_path, load=load)
