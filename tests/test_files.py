"""Files are whole or not there."""

import os

import pytest

from minidiff.files import write_whole


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    for content in (b"one", b"two, longer"):
        assert write_whole(tmp_path / "new" / "f", content).read_bytes() == content
    assert os.listdir(tmp_path / "new") == ["f"]


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    write_whole(tmp_path / "f", "old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "old" and os.listdir(tmp_path) == ["f"]
