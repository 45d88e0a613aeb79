"""pytest also runs the lessons: each `lessons/NN_name.py` is read by Jupytext and its cells are run in order by nbval.

Outputs are not compared (a text notebook stores none), so a lesson asserts what it claims.
"""

import os
from collections import defaultdict

if "PYTEST_XDIST_WORKER" in os.environ:  # Workers share the cores. Set before torch is imported, kernels inherit it.
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

import jupytext
from nbval.plugin import IPyNbCell, IPyNbFile, find_metadata_tags


class Lesson(IPyNbFile):
    """nbval's notebook, read from a percent-format .py file; nothing is written to disk."""

    def collect(self):
        self.nb = jupytext.read(self.path)
        cells = (cell for cell in self.nb.cells if cell.cell_type == "code")
        for number, cell in enumerate(cells):
            options = defaultdict(bool, find_metadata_tags(cell.metadata))
            options.setdefault("check", False)
            yield IPyNbCell.from_parent(self, name=f"Cell {number}", cell_num=number, cell=cell, options=options)


def pytest_collect_file(file_path, parent):
    if file_path.parent.name == "lessons" and file_path.suffix == ".py":
        return Lesson.from_parent(parent, path=file_path)
