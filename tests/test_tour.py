"""The tour: every picture and figure is there, the page needs nothing else, and a failure leaves nothing behind."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minidiff import tour
from minidiff.evaluation import results


class Reader(HTMLParser):
    """Collects the images, the addresses and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.images, self.addresses, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.addresses += [attrs[name] for name in ("href", "src") if name in attrs]
        if tag == "img":
            self.images.append(attrs)

    def handle_data(self, data):
        self.text.append(data)


def test_a_whole_tour(tmp_path, tiny_load, capsys):
    path = tour.run(tmp_path / "tour", steps=20, load=tiny_load)
    assert path == tmp_path / "tour" / "index.html"
    page = Reader(path.read_text(encoding="utf-8"))
    assert len(page.images) == len(tour.STOPS) == 5
    assert all(len(image["alt"].split()) > 5 for image in page.images)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)

    pictures = sorted(path.parent.glob("*.png"))
    assert [picture.name[0] for picture in pictures] == list("12345")
    assert all(np.asarray(Image.open(picture)).std() > 5 for picture in pictures)

    printed = capsys.readouterr().out
    error = float(printed.split("error of the code ")[1].split(",")[0])
    assert error < 1e-4
    assert f"{error:.1e}" in "".join(page.text)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "tour").write_text("mine")
    with pytest.raises(ValueError, match="out: expected a folder"):
        tour.run(tmp_path / "tour", load=None)
    assert (tmp_path / "tour").read_text() == "mine"


def test_nothing_is_written_when_a_stop_fails(tmp_path, tiny_load):
    def load(name):
        if name == "fashion-boot":
            raise FileNotFoundError(name)
        return tiny_load(name)

    with pytest.raises(FileNotFoundError):
        tour.run(tmp_path / "tour", steps=20, load=load)
    assert not (tmp_path / "tour").exists()


@pytest.mark.parametrize(
    "study, case, chosen", [("translation", "cat-dog", tour.ANIMALS), ("fashion", "sneaker-boot", tour.SHOES)]
)
def test_the_tour_runs_at_the_points_that_the_studies_chose(study, case, chosen):
    try:
        found = results.read(study, Path(__file__).parents[1] / "results")
    except FileNotFoundError:
        pytest.skip(f"minidiff reproduce {study} has not run yet")
    assert {key: found[f"{case}/best/cyclediffusion/{key}"].value for key in chosen} == chosen
    assert found.settings["steps"] == tour.STEPS
