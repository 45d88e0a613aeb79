"""What is installed, by which way, from which file: pyproject.toml, environment.yml, Makefile and README say the same."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import minidiff

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
SETUP = EXTRAS["lab"] + EXTRAS["test"] + PROJECT["dependencies"]


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def test_environment_yml_is_python_and_pip_and_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"] and environment["name"] == "minidiff"
    assert pip == {"pip": ["-e .[lab,test]"]}  # versions stand in pyproject.toml alone


def test_every_way_installs_the_same_extras():
    makefile, readme = (ROOT / "Makefile").read_text(), (ROOT / "README.md").read_text(encoding="utf-8")
    assert "EXTRAS := lab,test\n" in makefile and 'pip install -e ".[lab,test]"' in readme
    assert {"lab", "test"} <= set(EXTRAS)


def test_the_core_packages_are_part_of_the_setup():
    core = {"torch", "diffusers", "jupyterlab", "matplotlib", "ipywidgets", "jupytext", "nbval", "open-clip-torch"}
    assert core <= set(map(name_of, SETUP))


def test_the_tests_bring_what_is_optional():
    assert set(EXTRAS["hub"] + EXTRAS["onnx"]) <= set(EXTRAS["test"])


@pytest.mark.parametrize("requirement", SETUP)
def test_lower_bounds_without_upper_pins_and_met(requirement):
    name, bound = re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement).groups()
    installed = re.match(r"[\d.]+", metadata.version(name))[0].rstrip(".")
    assert tuple(map(int, installed.split("."))) >= tuple(map(int, bound.split(".")))


def test_one_version():
    assert metadata.version("minidiff") == minidiff.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == minidiff.__version__ and citation["license"] == PROJECT["license"]


def test_the_data_of_the_package_is_packed():
    with open(ROOT / "pyproject.toml", "rb") as file:
        packed = tomllib.load(file)["tool"]["setuptools"]["package-data"]["minidiff"]
    files = {path for pattern in packed for path in (ROOT / "minidiff").glob(pattern)}
    data = {
        path for path in (ROOT / "minidiff").rglob("*") if path.suffix in (".png", ".LICENSE", ".safetensors", ".json")
    }
    assert data <= files


def test_importing_minidiff_imports_nothing_heavy():
    """And the core, which trains and samples on bare GPU machines, only torch, numpy, safetensors and accelerate."""
    bare = "import sys, minidiff; assert 'torch' not in sys.modules"
    core = (
        "import sys, minidiff.generators, minidiff.cycle, minidiff.zoo, minidiff.training.loop; "
        "print(*(set(sys.modules) & {'matplotlib', 'PIL', 'diffusers', 'typer', 'torchvision', 'open_clip', 'IPython'}))"
    )
    subprocess.run([sys.executable, "-c", bare], check=True)
    done = subprocess.run([sys.executable, "-c", core], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_make_asks_for_a_python_that_is_new_enough(tmp_path):
    """`make setup` with an old Python stops with one line, before anything is installed."""
    old = tmp_path / "python3.9"  # this Python, made to believe that it is 3.9
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "$(echo "$2" | sed "s/sys.version_info/(3, 9)/")"\n')
    old.chmod(0o755)
    command = ["make", "-s", "-B", "-f", str(ROOT / "Makefile"), f"PYTHON={old}", f"VENV={tmp_path}/venv", "setup"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "needs Python 3.11 or newer" in done.stderr and "3.9" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_make_starts_at_once_the_second_time(tmp_path):
    """With the stamp newer than pyproject.toml there is nothing to do; a newer pyproject.toml sets up again."""
    (tmp_path / ".minidiff-lab,test").touch()
    command = ["make", "-n", "-f", str(ROOT / "Makefile"), f"VENV={tmp_path}", "setup"]
    assert "pip install" not in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (
        "pip install"
        in subprocess.run([*command, "-W", "pyproject.toml"], cwd=ROOT, capture_output=True, text=True).stdout
    )
    assert (
        "--no-browser"
        in subprocess.run(
            [*command[:-1], "ARGS=--no-browser", "lab"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    )


def test_ci_runs_the_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert script.read_text().rstrip().endswith("make test") and script.stat().st_mode & 0o111
    assert "make test " in (ROOT / "README.md").read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert links and [link for link in links if not (ROOT / link).exists()] == []
