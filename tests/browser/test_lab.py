"""JupyterLab in a real browser: the first lesson opens, every cell runs without an error, and nothing is asked of the network.

Needs the extra "browser" (playwright) and a chromium on the PATH; without them it is skipped.
"""

import json
import re
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import pytest

from minidiff import lab

playwright = pytest.importorskip("playwright.sync_api", reason='playwright is missing: pip install -e ".[browser]"')
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")
ROOT = Path(__file__).resolve().parents[2]
ERROR = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']"
RAN = re.compile(r"^\[\d+\]:$")  # the mark beside a cell that has been run


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Lab as `minidiff lab --no-browser` starts it, on a copy of the lessons, with folders of its own: (url, root)."""
    home = tmp_path_factory.mktemp("lab")
    root = home / "clone"
    shutil.copytree(ROOT / "lessons", root / "lessons")
    shutil.copytree(ROOT / ".jupyter", root / ".jupyter")
    shutil.copy(ROOT / "jupytext.toml", root)
    lab.build(root)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    folders |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    arguments = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", f"--IdentityProvider.token={token}"]
    log = open(home / "server.log", "w")
    process = subprocess.Popen(
        lab.command(root, arguments),
        cwd=root,
        env=lab.environment(root) | {name: str(home / folder) for name, folder in folders.items()},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    url = f"http://127.0.0.1:{port}/lab/tree/{lab.FIRST}?token={token}"
    try:
        wait_until_up(f"http://127.0.0.1:{port}/api?token={token}", process)
        yield url, root
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def wait_until_up(url, process, seconds=120):
    opener, end = build_opener(ProxyHandler({})), time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            return opener.open(url, timeout=5).read()
        except OSError:
            time.sleep(0.3)
    raise AssertionError("JupyterLab did not start")


@pytest.fixture(scope="module")
def visit(server):
    """The first lesson, run from top to bottom: the page, and every address that it asked for."""
    url, _ = server
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.goto(url, timeout=120_000)
        kernel_is("Idle", page, 120)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        last = page.locator(".jp-CodeCell").last.get_by_text(RAN)
        last.or_(page.locator(ERROR)).first.wait_for(timeout=300_000)  # an error stops the cells after it
        kernel_is("Idle", page, 60)
        page.keyboard.press("Control+s")
        page.locator(".lm-TabBar-tab.lm-mod-current.jp-mod-dirty").wait_for(state="detached", timeout=60_000)
        yield page, asked
        browser.close()


def kernel_is(state, page, seconds):
    """Wait until the status bar says that the kernel is Idle or Busy."""
    page.get_by_text(f"Python 3 (ipykernel) | {state}").wait_for(timeout=1000 * seconds)


def test_every_cell_runs(server, visit):
    notebook = json.loads((server[1] / lab.FIRST).read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    errors = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert not errors, errors
    assert cells and all(cell["execution_count"] for cell in cells), "some cells did not run"
    assert visit[0].locator(ERROR).count() == 0


def test_no_dialog_asks_anything(visit):
    assert visit[0].locator(".jp-Dialog, .jp-Notification-Toast").count() == 0


def test_nothing_is_asked_of_the_network(visit):
    elsewhere = {url for url in visit[1] if urlsplit(url).scheme in ("http", "https", "ws", "wss")}
    elsewhere = {url for url in elsewhere if urlsplit(url).hostname != "127.0.0.1"}
    assert not elsewhere


def test_saving_keeps_lesson_and_notebook_together(server, visit):
    """What is saved in Lab is in lessons/00_start_here.py too, and that is still the lesson it was, without outputs."""
    lesson = Path("lessons") / "00_start_here.py"
    saved, original = (server[1] / lesson).read_text(), (ROOT / lesson).read_text()
    assert saved == original
