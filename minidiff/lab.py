"""JupyterLab on the lessons: the .py files become notebooks paired by Jupytext, so that what is saved in Lab is saved in both."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FIRST = "build/notebooks/00_start_here.ipynb"
HERE = Path(__file__).resolve().parents[1]


def start(arguments: Sequence[str] = (), root: str | Path | None = None) -> int:
    """Build the notebooks and become JupyterLab on the first of them, until it is stopped (on Windows: its exit code).

    arguments go to JupyterLab: "--no-browser" on a server, "--port=8889". Raises FileNotFoundError outside a clone.
    """
    root = find_root(root)
    build(root)
    arguments, settings = command(root, arguments), environment(root)
    sys.stdout.flush()
    os.chdir(root)
    if os.name == "posix":  # become JupyterLab: Control-C and signals then reach it and nothing is left behind
        os.execve(arguments[0], arguments, settings)
    return subprocess.call(arguments, env=settings)


def find_root(root: str | Path | None = None) -> Path:
    """The clone with the lessons: `root`, else where this package lies, else the working folder."""
    places = [Path(root)] if root is not None else [HERE, Path.cwd()]
    for place in places:
        if (place / "lessons").is_dir() and (place / "jupytext.toml").is_file():
            return place.resolve()
    raise FileNotFoundError(
        f"lab: no lessons in {' or '.join(map(str, places))}; they are part of the repository, not of the installed "
        "package: run this in a clone of it"
    )


def build(root: Path) -> list[Path]:
    """Bring every lesson and its notebook under build/notebooks to the newer of the two; returns the notebooks."""
    lessons = sorted((root / "lessons").glob("*.py"))
    if not lessons:
        raise FileNotFoundError(f"lab: no lesson in {root / 'lessons'}")
    files = [str(lesson.relative_to(root)) for lesson in lessons]
    jupytext = [sys.executable, "-m", "jupytext", "--quiet", "--sync", *files]
    done = subprocess.run(jupytext, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"lab: Jupytext could not build the notebooks:\n{done.stderr}")
    return [root / "build" / "notebooks" / f"{lesson.stem}.ipynb" for lesson in lessons]


def command(root: Path, arguments: Sequence[str] = ()) -> list[str]:
    """The command line that opens the first lesson."""
    first = FIRST if (root / FIRST).exists() else "build/notebooks"
    lab = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url=/lab/tree/{first}",
    ]
    # Nothing is asked of the network: no list of extensions, no news (.jupyter turns off the check for newer versions).
    lab += ["--LabApp.extension_manager=readonly", "--LabApp.news_url="]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container one is often root, which JupyterLab refuses
        lab.append("--allow-root")
    return [*lab, *arguments]


def environment(root: Path) -> dict[str, str]:
    """This process's environment with the settings in .jupyter, and the kernel of this Python before any other."""
    paths = [str(root / ".jupyter"), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    return os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(paths), "JUPYTER_PREFER_ENV_PATH": "1"}


def kernel_python() -> str | None:
    """The Python that notebooks here will run on, or None without Jupyter: it should be this one."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        return None
    try:
        program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return None
    return sys.executable if program in ("python", "python3", Path(sys.executable).name) else program
