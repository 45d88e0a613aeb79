"""The lessons as notebooks: built, paired, and unchanged by being opened and saved in JupyterLab."""

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import jupytext
import nbformat
import pytest

from minidiff import lab

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "lessons").glob("*.py"))
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


@pytest.fixture
def clone(tmp_path):
    shutil.copytree(ROOT / "lessons", tmp_path / "lessons", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "jupytext.toml", tmp_path)
    return tmp_path


def texts(root):
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted((root / "lessons").glob("*.py"))}


def test_there_are_lessons():
    assert LESSONS and LESSONS[0].stem == Path(lab.FIRST).stem


def test_build_gives_a_notebook_for_every_lesson_and_leaves_the_lessons_alone(clone):
    before = texts(clone)
    notebooks = lab.build(clone)
    assert [path.stem for path in notebooks] == list(before)
    for notebook in notebooks:
        cells = nbformat.read(notebook, 4).cells
        lesson = jupytext.reads(before[notebook.stem], "py:percent")
        assert [cell.source for cell in cells] == [cell.source for cell in lesson.cells]
    assert texts(clone) == before


def test_saving_in_lab_changes_only_what_was_edited(clone):
    """JupyterLab adds the kernel, the language and the widgets' state to a notebook; none of it may reach the lesson."""
    before = texts(clone)
    for notebook in lab.build(clone):
        saved = nbformat.read(notebook, 4)
        saved.metadata |= {"kernelspec": KERNEL, "language_info": {"name": "python", "version": "3.11.7"}}
        saved.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2}}
        saved.cells.append(nbformat.v4.new_markdown_cell("new words"))
        nbformat.write(saved, notebook)
        later = time.time() + 5
        os.utime(notebook, (later, later))
    lab.build(clone)
    assert texts(clone) == {name: f"{text}\n# %% [markdown]\n# new words\n" for name, text in before.items()}


def test_a_newer_lesson_renews_its_notebook(clone):
    lab.build(clone)
    lesson = min((clone / "lessons").glob("*.py"))
    lesson.write_text(lesson.read_text(encoding="utf-8") + "\n# %%\nfresh = 1\n", encoding="utf-8")
    later = time.time() + 60
    os.utime(lesson, (later, later))
    assert nbformat.read(lab.build(clone)[0], 4).cells[-1].source == "fresh = 1"


def test_command_and_settings():
    command = lab.command(ROOT, ["--no-browser"])
    assert command[0] == sys.executable and command[-1] == "--no-browser"
    assert any(part.startswith("--LabApp.default_url=/lab/tree/build/notebooks") for part in command)
    assert lab.environment(ROOT)["JUPYTER_CONFIG_PATH"].split(os.pathsep)[0] == str(ROOT / ".jupyter")
    settings = json.loads((ROOT / ".jupyter" / "labconfig" / "default_setting_overrides.json").read_text())
    assert settings["@jupyterlab/docmanager-extension:plugin"]["defaultViewers"] == {"python": "Jupytext Notebook"}
    assert settings["@jupyterlab/apputils-extension:kernels-settings"] == {"commsOverSubshells": "disabled"}


def test_notebooks_run_on_this_python():
    assert Path(lab.kernel_python()).samefile(sys.executable)


def test_outside_a_clone_it_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no lessons in .*clone"):
        lab.find_root(tmp_path)
    (tmp_path / "lessons").mkdir()
    (tmp_path / "jupytext.toml").touch()
    with pytest.raises(FileNotFoundError, match="no lesson in"):
        lab.build(lab.find_root(tmp_path))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_equations_have_the_numbers_they_are_given_and_no_others(lesson):
    text = lesson.read_text(encoding="utf-8")
    assert "# %% [markdown]\n# ---\n# numbering:\n#   equation: false\n# ---\n#\n# # " in text  # or Lab adds its own
    numbers = [int(number) for number in re.findall(r"\\tag\{(\d+)\}", text)]
    assert numbers == list(range(1, len(numbers) + 1))
