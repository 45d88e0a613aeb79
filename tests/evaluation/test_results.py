"""Results files: what is written is read back, half-written or quick ones never take a full one's place."""

import json
import math

import pytest

from minidiff.evaluation import results as r
from minidiff.evaluation.intervals import Estimate

ROWS = [
    r.row("a/sdedit/dogs", Estimate(0.982, (0.97, 0.99), 500), "share", seed=2),
    r.row("a/sdedit/psnr", Estimate(15.26, (15.1, 15.4), 500), "dB", seed=2),
    r.row("a/copy/dogs", Estimate(0.0, (0.0, 0.01), 500), "share", seed=2),
    r.row("a/copy/psnr", math.nan, "dB", seed=2, n=500),
]
TABLE = r.Table(
    {"a/sdedit": "SDEdit", "a/copy": "copy"}, {"dogs": "dogs", "psnr": "to truth", "gaze": "gaze"}, "method"
)


def made(**changes):
    return r.Results("study", "minidiff reproduce study", ROWS, {"main": TABLE}, **changes)


def test_written_and_read_back(tmp_path):
    path = r.write(made(settings={"steps": 50}, seconds=1.5), tmp_path)
    assert r.read("study", tmp_path) == made(settings={"steps": 50}, seconds=1.5)
    data = json.loads(path.read_text())
    assert data["rows"][0] == {
        "name": "a/sdedit/dogs", "value": 0.982, "unit": "share", "n": 500, "seed": 2, "interval": [0.97, 0.99]
    }  # fmt: skip
    assert {"command", "date", "machine", "versions", "seconds"} <= data.keys()
    assert path.read_text().count("\n") > len(ROWS)  # one row a line: readable, and kind to version control


def test_nobodys_computer_is_named(tmp_path):
    import platform

    text = r.write(made(), tmp_path).read_text()
    assert platform.node() not in text or len(platform.node()) < 3
    assert r.machine()["cores"] >= 1
    assert r.machine()["processor"]


def test_csv_and_missing_values(tmp_path):
    r.write(made(), tmp_path)
    lines = (tmp_path / "study.csv").read_text().splitlines()
    assert lines[0] == "name,value,unit,n,seed,low,high"
    assert lines[1] == "a/sdedit/dogs,0.982,share,500,2,0.97,0.99"
    assert lines[4] == "a/copy/psnr,,dB,500,2,,"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["study.csv", "study.json"]


def test_a_table_for_people():
    assert r.markdown_table(ROWS, TABLE).split("\n") == [
        "| method | dogs | to truth | gaze |",
        "| --- | --: | --: | --: |",
        "| SDEdit | 98.2 % | 15.3 dB | - |",
        "| copy | 0.0 % | - | - |",
    ]
    assert r.shown(ROWS[0], interval=True) == "98.2 % (97.0 % to 99.0 %)"


def test_rows_are_found_by_name():
    assert made()["a/sdedit/psnr"].value == 15.26
    assert made()["a/sdedit/psnr"].quantity == "psnr"
    with pytest.raises(KeyError, match="no row 'a/sdedit/psn'; some are a/sdedit/dogs"):
        made()["a/sdedit/psn"]


def test_a_quick_run_never_replaces_a_full_one(tmp_path):
    path = r.write(made(quick=True), tmp_path)
    r.write(made(quick=True), tmp_path)
    r.write(made(), tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="holds a full run"):
        r.write(made(quick=True), tmp_path)
    assert path.read_bytes() == before


def test_bad_input_is_refused(tmp_path):
    twice = made()
    twice.rows = [*ROWS, ROWS[0]]
    with pytest.raises(ValueError, match="two of them are called 'a/sdedit/dogs'"):
        r.write(twice, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="`minidiff reproduce other` makes it"):
        r.read("other", tmp_path)
