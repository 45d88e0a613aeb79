"""Figures in texts: filled in from the results, and in step with them in everything that the repository ships."""

from pathlib import Path

import pytest

from minidiff.evaluation import results as r
from minidiff.evaluation.documents import documents, filled, update

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    rows = [r.row("a/sdedit/dogs", 0.5, "share", seed=2, n=10), r.row("a/copy/dogs", 0.0, "share", seed=2, n=10)]
    table = r.Table({"a/sdedit": "SDEdit", "a/copy": "copy"}, {"dogs": "dogs"}, "method")
    r.write(r.Results("study", "minidiff reproduce study", rows, {"main": table}), tmp_path)
    return tmp_path


def test_a_table_is_filled_in(folder):
    text = "Before\n<!-- results: study main -->\nold\n<!-- end -->\nafter"
    assert filled(text, folder) == (
        "Before\n<!-- results: study main -->\n\n| method | dogs |\n| --- | --: |\n| SDEdit | 50.0 % |\n"
        "| copy | 0.0 % |\n\n<!-- end -->\nafter"
    )


def test_a_table_in_a_lesson_stays_a_comment(folder):
    text = "# %% [markdown]\n# <!-- results: study main --><!-- end -->\n#\n# More."
    lines = filled(text, folder).split("\n")
    assert all(line.startswith("#") for line in lines)
    assert lines[2:5] == ["#", "# | method | dogs |", "# | --- | --: |"]
    assert lines[-4:] == ["#", "# <!-- end -->", "#", "# More."]


def test_one_figure_in_a_sentence(folder):
    text = "It reads <!-- results: study a/sdedit/dogs -->?<!-- end --> of them as dogs."
    assert "-->50.0 %<!-- end --> of them" in filled(text, folder)


def test_a_benchmark_is_a_dash_until_it_is_measured(folder):
    text = "It is <!-- benchmarks: study a/sdedit/dogs -->old<!-- end -->, and <!-- results: study a/copy/dogs --><!-- end -->."
    assert "-->50.0 %<!-- end -->, and" in filled(text, folder, benchmarks=folder)
    assert "-->-<!-- end -->, and <!-- results: study a/copy/dogs -->0.0 %" in filled(
        text, folder, benchmarks=folder / "none"
    )
    with pytest.raises(KeyError, match="no row 'a/nothing'"):
        filled("<!-- benchmarks: study a/nothing --><!-- end -->", folder, benchmarks=folder)
    page = "<!-- benchmarks: other -->\na table of its own\n<!-- end -->"
    assert filled(page, folder) == page


def test_filling_in_twice_changes_nothing(folder):
    text = "# <!-- results: study main --><!-- end -->\nand <!-- results: study a/copy/dogs --><!-- end -->."
    assert filled(filled(text, folder), folder) == filled(text, folder)


def test_update_writes_only_what_changed(folder):
    stale, plain = folder / "stale.md", folder / "plain.md"
    stale.write_text("<!-- results: study a/copy/dogs -->1 %<!-- end -->")
    plain.write_text("no figures")
    assert update([stale, plain], folder, write=False) == [stale]
    assert "1 %" in stale.read_text()
    assert update([stale, plain], folder) == [stale]
    assert update([stale, plain], folder) == []


def test_mistakes_are_named(folder):
    with pytest.raises(ValueError, match="note.md: a <!-- results"):
        filled("<!-- results: study main --> and no end", folder, "note.md")
    with pytest.raises(ValueError, match="note.md: a <!-- results"):
        filled("<!-- benchmarks: study main --> and <!-- results: study main --><!-- end -->", folder, "note.md")
    with pytest.raises(KeyError, match="no row 'a/nothing'"):
        filled("<!-- results: study a/nothing --><!-- end -->", folder)
    with pytest.raises(FileNotFoundError, match="minidiff reproduce none"):
        filled("<!-- results: none main --><!-- end -->", folder)


def test_the_repository_is_in_step_with_its_results():
    stale = update(documents(ROOT), ROOT / "results", False, ROOT / "benchmarks" / "results")
    assert not stale, f"{[p.name for p in stale]}: run `python -m minidiff.evaluation` to fill in the new figures"
