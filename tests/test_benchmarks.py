import pytest

from benchmarks import __main__ as command
from benchmarks import drawing
from minidiff.evaluation import results


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
