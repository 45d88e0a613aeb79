"""Figures: the right pixels in the right place, alternative text always, and one appearance in a notebook."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff import plot
from minidiff.data.renderer import PARTS

ALT = "Two rows of flat squares in different colours."


def flat(values, channels=3, size=8):
    return torch.tensor(values).float().view(-1, 1, 1, 1).expand(-1, channels, size, size)


def opened(picture):
    return np.asarray(Image.open(io.BytesIO(picture.png)))


def test_grid_puts_each_picture_in_its_place():
    picture = plot.grid([flat([-1, 0, 1]), flat([1, -1])], alt=ALT, scale=1)
    image = opened(picture)
    assert image.shape == (4 + 2 * 12, 4 + 3 * 12, 3)
    centres = image[[8, 20]][:, [8, 20, 32]]
    assert centres[0, :, 0].tolist() == [0, 128, 255]
    assert centres[1, :, 0].tolist() == [255, 0, 255]  # a short row ends in white
    assert picture.width == image.shape[1]


def test_grid_takes_grey_and_colour_sizes_and_labels():
    colour = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    image = opened(plot.grid([flat([0], channels=1), colour], alt=ALT, row_labels=["grey", "red"], column_labels=["a"]))
    assert (image == [255, 0, 0]).all(-1).any()
    assert (image == [128, 128, 128]).all(-1).any()
    assert (image[:, :20] < 100).all(-1).any()  # ink of a label on the left


def test_one_tensor_is_one_row():
    assert opened(plot.grid(flat([0.0, 1.0]), alt=ALT, scale=2)).shape == (4 + 20, 4 + 40, 3)


def test_pixels_are_clamped_and_rounded():
    assert plot.pixels(flat([-3, -1, 0, 1, 9]))[:, 0, 0, 0].tolist() == [0, 0, 128, 255, 255]


def test_a_map_has_a_colour_of_its_own_for_each_part():
    parts = torch.arange(12).view(1, 3, 4).repeat(2, 1, 1)
    pictures = plot.layout(parts)
    assert pictures.shape == (2, 3, 3, 4)
    drawn = plot.pixels(pictures)[1].reshape(12, 3)
    assert ["#" + bytes(colour).hex().upper() for colour in drawn] == list(plot.MAP_COLOURS)
    assert len(set(plot.MAP_COLOURS)) == 12 >= len(PARTS)
    assert torch.equal(plot.layout(parts.byte()), pictures)


@pytest.mark.parametrize("wrong", [torch.full((1, 2, 2), 12), torch.full((1, 2, 2), -1)])
def test_a_part_without_a_colour_is_refused(wrong):
    with pytest.raises(ValueError, match="parts: expected numbers 0 to 11, got"):
        plot.layout(wrong)
    for other in (wrong[0], wrong.float(), [0]):
        with pytest.raises(ValueError, match=r"parts: expected whole numbers \(B, H, W\), got"):
            plot.layout(other)


def test_save_png_wraps_columns(tmp_path):
    path = plot.save_png(flat([-1, 0, 1, 1]), tmp_path / "new" / "a.png", ncol=2)
    assert np.asarray(Image.open(path)).shape == (4 + 24, 4 + 24, 3)
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]
    one = plot.save_png(flat([0])[0], tmp_path / "b.png")
    assert np.asarray(Image.open(one)).shape == (16, 16, 3)


def test_curves_and_any_figure():
    picture = plot.curves(
        {"ours": [1, 2, 3], "theirs": torch.tensor([3.0, 2.0, 1.0])},
        x=[0.1, 0.5, 1.0],
        bands={"ours": ([0, 1, 2], [2, 3, 4])},
        xlabel="strength",
        logx=True,
        alt="One line rises from one to three and the other falls.",
    )
    assert opened(picture).shape[1] == 7 * 150
    fig = plot.draw_curves({"a": ([1, 2], [3, 4]), "b": ([1, 3], [0, 0])})
    dashes = [line.get_linestyle() for line in fig.axes[0].lines]
    assert len(set(dashes)) == 2
    assert [list(line.get_xdata()) for line in fig.axes[0].lines] == [[1, 2], [1, 3]]
    assert "pyplot" not in str(type(fig))


def test_svg_has_its_text_and_is_the_same_every_time(tmp_path):
    def drawn():
        fig, ax = plot.figure(3, 2)
        ax.plot([1, 2], [2, 1])
        return plot.save_svg(fig, tmp_path / "a.svg", alt="A line falls from 2 to 1, & stops.").read_bytes()

    assert b'<svg role="img" aria-label="A line falls from 2 to 1, &amp; stops."' in drawn()
    assert drawn() == drawn()
    with pytest.raises(ValueError, match="alt"):
        plot.save_svg(plot.figure(3, 2)[0], tmp_path / "b.svg", alt="")
    assert not (tmp_path / "b.svg").exists()


def test_the_html_carries_pixels_and_escaped_text():
    picture = plot.grid(flat([0]), alt='A "grey" square, with 1 < 2 in its text.')
    assert picture.html.startswith('<img alt="A &quot;grey&quot; square, with 1 &lt; 2 in its text."')
    assert "base64," in picture.html
    assert "png" not in repr(picture)


@pytest.mark.parametrize("alt", ["", "cats", "three words only.", "A sentence that does not stop"])
def test_alternative_text_is_not_optional(alt):
    with pytest.raises(ValueError, match="alt: expected at least one whole sentence"):
        plot.grid(flat([0]), alt=alt)
    with pytest.raises(TypeError):
        plot.grid(flat([0]))


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a tensor \(B, 1 or 3, H, W\), got \(1, 2, 8, 8\)"):
        plot.grid(torch.zeros(1, 2, 8, 8), alt=ALT)
    with pytest.raises(ValueError, match="row_labels: expected 1 labels"):
        plot.grid(flat([0]), row_labels=["a", "b"], alt=ALT)
    with pytest.raises(ValueError, match="at least one row"):
        plot.grid([], alt=ALT)
    with pytest.raises(ValueError, match="images"):
        plot.save_png(torch.zeros(8, 8), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_in_a_notebook_a_picture_appears_once_a_cell(monkeypatch):
    """A figure in the middle of a cell appears, one at its end does not appear twice, and it can be shown again later."""
    published, cell = [], [1]
    monkeypatch.setattr(plot, "_publish", lambda picture: published.append(cell[0]))
    monkeypatch.setattr(plot, "_cell", lambda: cell[0])
    picture = plot.grid(flat([0]), alt=ALT)
    picture._ipython_display_()
    assert published == [1]
    cell[0] = 2
    picture._ipython_display_()
    picture.show()
    assert published == [1, 2, 2]
    plot.grid(flat([0]), alt=ALT, display=False)
    assert published == [1, 2, 2]
