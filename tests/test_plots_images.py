"""The grid of images: every pixel in its place, legible on both pages."""

import numpy as np
import pytest
import torch
from matplotlib.text import Text

from vaelib.errors import VaelibError
from vaelib.plots.images import image_grid
from vaelib.plots.style import INK, WIDTH, Picture

IMAGES = torch.rand(7, 9, generator=torch.Generator().manual_seed(0))


def sheet(figure: Picture) -> np.ma.MaskedArray:
    (image,) = figure.axes[0].images
    return image.get_array()


def named() -> Picture:
    return image_grid(
        IMAGES, 3, row_names=("one", "two", "three"), column_names="abc", note="from the prior"
    )


def test_every_image_stands_upright_in_its_place() -> None:
    drawn = sheet(image_grid(IMAGES, 3))
    assert drawn.shape == (11, 11)
    for i in range(7):
        row, column = divmod(i, 3)
        tile = drawn[4 * row : 4 * row + 3, 4 * column : 4 * column + 3]
        assert np.array_equal(tile, IMAGES[i].view(3, 3).numpy())
    assert drawn.mask[3].all()  # a gap, through which the page is seen
    assert drawn.mask[:, 3].all()
    assert drawn.mask[8:, 4:].all()  # two places are empty


def test_ink_is_black_and_what_is_missing_is_the_page() -> None:
    figure = image_grid(torch.tensor([[1.0], [0.0]]), 2)
    (image,) = figure.axes[0].images
    black, gap, white = image.to_rgba(image.get_array())[0]
    assert black.tolist() == [0, 0, 0, 1]
    assert white.tolist() == [1, 1, 1, 1]
    assert gap[3] == 0
    assert figure.axes[0].yaxis_inverted()  # the first line of pixels is at the top


def test_grey_does_not_depend_on_the_other_images() -> None:
    image = image_grid(torch.full((2, 4), 0.5)).axes[0].images[0]
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)


@pytest.mark.parametrize("columns", [1, 2, 10, 30])
def test_a_grid_has_the_width_of_the_book_and_square_pixels(columns: int) -> None:
    figure = image_grid(torch.zeros(30, 64), columns, note="note")
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] == WIDTH
    box = figure.axes[0].get_window_extent()
    rows = -(-30 // columns)
    assert box.width / box.height == pytest.approx((9 * columns - 1) / (9 * rows - 1), rel=0.01)
    inside = figure.get_tightbbox()
    assert inside.x0 > -0.02
    assert inside.y0 > -0.02
    assert inside.x1 < WIDTH + 0.02
    assert inside.y1 < figure.get_size_inches()[1] + 0.02


def test_names_stand_beside_their_rows_and_above_their_columns() -> None:
    axes = named().axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["one", "two", "three"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b", "c"]
    assert list(axes.get_yticks()) == list(axes.get_xticks()) == [1, 5, 9]
    letters = [t for t in named().findobj(Text) if t.get_text()]
    assert "from the prior" in [t.get_text() for t in letters]
    assert min(t.get_fontsize() for t in letters) >= 9
    assert {t.get_color() for t in letters} == {INK}
    assert not [t for t in image_grid(IMAGES).findobj(Text) if t.get_text()]


def test_svg_is_the_same_each_time_and_transparent() -> None:
    figure = named()
    assert figure.svg() == named().svg()
    assert "<image" in figure.svg()
    assert figure.get_facecolor()[3] == figure.axes[0].get_facecolor()[3] == 0


def test_no_images_is_said_so() -> None:
    figure = image_grid(torch.zeros(0, 64))
    assert "no images yet" in [t.get_text() for t in figure.findobj(Text)]


@pytest.mark.parametrize(
    ("images", "options", "told"),
    [
        (torch.zeros(4, 8), {}, r"shape \[4, 8\]"),
        (torch.zeros(4, 3, 3), {}, r"shape \[4, 3, 3\]"),
        (torch.zeros(4), {}, r"shape \[4\]"),
        (IMAGES, {"columns": 0}, "columns=0"),
        (IMAGES, {"columns": 3, "row_names": ("a",)}, "row_names has 1 entries; give 3"),
        (IMAGES, {"columns": 3, "column_names": "ab"}, "column_names has 2 entries; give 3"),
    ],
)
def test_what_cannot_be_drawn_is_refused(images: torch.Tensor, options: dict, told: str) -> None:
    with pytest.raises(VaelibError, match=told):
        image_grid(images, **options)
