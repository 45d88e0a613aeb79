"""The studies of models that are told things, from end to end on untrained ones."""

import pytest
import torch

from minidiff.disagreement import LEVELS
from minidiff.evaluation import results
from minidiff.evaluation.studies import conditioning, editing, reproduce


def test_captions(tiny_load, tmp_path):
    settings = {"n": 6, "tuning": 3, "steps": 2, "scales": (1.0, 2.0), "etas": (1.0,), "ends": (0.0, 0.3)}
    path = reproduce("captions", quick=True, out=tmp_path, load=tiny_load, **settings)
    found = results.read("captions", path.parent)
    assert found["text/tuning/eta 1/scale 2/all"].n == 3 and found["text/best/all"].n == found["text/plain/all"].n == 6
    tried = {
        setting: found[f"text/tuning/eta 1/scale {setting[0]:g}{setting[1]}/all"].value
        for setting in ((1, ""), (2, ""), (2, "/end 0.3"))
    }
    end = found["text/best/end"].value
    assert tried[found["text/best/scale"].value, f"/end {end:g}" if end else ""] == max(tried.values())
    assert found["text/truth/frechet"].value == pytest.approx(0, abs=1e-3)
    assert "| true pictures |" in results.markdown_table(found.rows, found.tables["words"])
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".csv", ".svg", ".png"}


def test_editing(tiny_load, tmp_path):
    settings = {
        "n": 1, "tuning": 1, "searched": 2, "steps": 4, "strengths": (0.5,), "scales": (1.0, 2.0), "etas": (0.5,),
        "kinds": ("species", "accessory added"), "load": tiny_load,
    }  # fmt: skip
    found = results.read("editing", reproduce("editing", quick=True, out=tmp_path, **settings).parent)
    for method in editing.METHODS:
        assert found[f"editing/best/{method}/success"].n == 2
        assert found[f"editing/best/{method}/species/kept"].n == 1
        scale = found[f"editing/best/{method}/scale"].value
        way_in, way_out = (0 if method == "sdedit" else 2), 2 * (1 if scale == 1 else 2)
        side_by_side = 2 if method in ("control", "local", "local-control") else 1
        searched = 2 * len(LEVELS) if "local" in method else 0
        assert found[f"editing/best/{method}/calls"].value == way_in + way_out * side_by_side + searched
        tried = [row.name for row in found.rows if row.name.startswith(f"editing/screening/{method}/")]
        assert len(tried) == 2 * 4  # settings, marks
        best = f"strength 0.5/scale {scale:g}/eta {0 if method == 'ddib' else 0.5:g}"
        assert found[f"editing/tuning/{method}/{best}/success"].n == 2
    assert found["editing/best/truth/success"].n == 2
    assert found["editing/search/candidates"].value == 1 * 2 * 2  # strengths, scales, seeds
    chosen, random = (found[f"editing/search/{which}/directional"] for which in ("selected", "unselected"))
    assert chosen.value >= random.value and chosen.n == random.n == 4
    assert "| one at random |" in results.markdown_table(found.rows, found.tables["search"])
    text = results.markdown_table(found.rows, found.tables["best"])
    assert "| CycleDiffusion, attention control |" in text and "| edit-friendly |" in text


def test_conditioning(tiny_load, tmp_path):
    settings = {"n": 4, "steps": (2, 3), "load": tiny_load}
    found = results.read("conditioning", reproduce("conditioning", quick=True, out=tmp_path, **settings).parent)
    assert found["inpainting/known/pasted"].value == 0 < found["inpainting/known/drawn"].value
    assert found["truth/psnr"].value is None and found["truth/sharpness"].value == pytest.approx(1)
    assert found["bicubic/sharpness"].value < 0.9 and found["bicubic/psnr"].value > 15
    gain = found["super-resolution/ahead of bicubic/psnr"]
    apart = found["super-resolution/psnr"].value - found["bicubic/psnr"].value
    assert gain.n == 4 and gain.value == pytest.approx(apart, abs=1e-3) and gain.interval[0] < gain.value
    assert found["super-resolution/ahead of bicubic/sharpness"].interval and found["inpainting/pose_right"].n == 4
    assert 0 <= found["label/dog"].value <= 1 and found["label/dog"].n == 2
    assert found["super-resolution/iou"].value >= 0 and found["layout and caption/all_right"].n == 4
    tried = [row for row in found.rows if row.name.startswith("super-resolution/tuning/")]
    best = max(tried, key=lambda row: row.value)
    chosen = [f"{name} {found[f'super-resolution/{name}'].value:g}" for name in ("steps", "eta", "scale")]
    assert len(tried) == 3 and best.name.endswith("/".join(chosen)) and best.unit == "dB"
    assert (tmp_path / "conditioning-examples.png").exists()


def test_sharpness_is_the_size_of_the_steps_between_neighbours():
    flat, steep = torch.zeros(1, 1, 4, 4), torch.arange(4.0).expand(1, 1, 4, 4)
    assert conditioning.gradients(flat).item() == 0
    torch.testing.assert_close(conditioning.gradients(2 * steep), 2 * conditioning.gradients(steep))
    assert conditioning.gradients(steep).item() == pytest.approx(1)
