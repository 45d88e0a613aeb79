import dataclasses

import pytest

from benchmarks import __main__ as command
from benchmarks import afhq_costs, drawing
from minidiff.evaluation import results
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.unet import UNetConfig
from minidiff.training.afhq import AFHQ


def test_a_benchmark_writes_what_it_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(drawing, "SIZES", (16,))
    monkeypatch.setattr(drawing, "CHUNKS", (2, 8))
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    command.main(["drawing"])
    found = results.read("drawing", tmp_path)
    assert [row.name for row in found.rows] == [f"critters/size 16/chunk {chunk}/rate" for chunk in (2, 8)]
    assert all(row.value > 10 for row in found.rows) and found.rows[1].value > found.rows[0].value
    assert "pictures/s" in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(SystemExit, match="there is no sampling; there are lessons, tour, drawing"):
        command.main(["sampling"])


def test_the_costs_of_afhq_are_measured_and_tabled(tmp_path):
    config = UNetConfig(in_channels=4, channels=(32,), attention=(True,), time=16)
    recipe = dataclasses.replace(AFHQ[0], config=config, steps=1_000, batch=8)
    autoencoder = Autoencoder(AutoencoderConfig(latent_channels=4, encoder=(8, 16), decoder=(8, 8, 16), depth=1))
    rows = afhq_costs.measure(recipe, autoencoder, batch=2, steps=2, cpu=True, size=64)
    value = {row.quantity: row.value for row in rows}
    assert value.keys() == afhq_costs.COLUMNS.keys() and all(each > 0 for each in value.values())
    encoding = 2 * afhq_costs.PHOTOGRAPHS / value["encode"]
    assert value["train"] == pytest.approx((4_000 * value["step"] + encoding) / 3600, rel=1e-3)  # four times the steps

    assert "Nothing has been measured" in afhq_costs.table(tmp_path)
    for device in ("GPU A", "GPU B"):
        name = f"afhq_costs-{device[-1].lower()}"
        results.write(results.Results(name, "bench", rows, settings={"device": device}), tmp_path)
    page = "Costs:\n<!-- benchmarks: afhq_costs -->\nold\n<!-- end -->\nafter"
    lines = afhq_costs.filled(page, tmp_path).splitlines()
    assert lines[3].startswith("| on | s a step | GiB | h to train") and lines[-1] == "after" and "old" not in lines
    assert [line.split(" |")[0] for line in lines[5:7]] == [f"| GPU {x}, batch 2, float32" for x in "AB"]
    with pytest.raises(ValueError, match="page: expected <!-- benchmarks: afhq_costs -->"):
        afhq_costs.filled("no marks", tmp_path)


def test_the_page_of_afhq_has_the_costs_that_were_measured():
    page = afhq_costs.PAGE.read_text(encoding="utf-8")
    assert afhq_costs.filled(page) == page, "python -m benchmarks.afhq_costs fills it in"
