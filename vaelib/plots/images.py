"""Images in rows and columns: samples, reconstructions, walks from one image to another."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vaelib.errors import VaelibError
from vaelib.plots import style
from vaelib.plots.style import Picture, styled

LARGEST = 0.8  # inches along the side of an image
MARGIN = 0.32  # inches for names above or a note below


@styled
def image_grid(
    images: Any,
    columns: int = 10,
    *,
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    note: str = "",
) -> Picture:
    """Images line by line, ink black on white whatever the page, with gaps between them.

    Args:
        images: `[N, P]` in [0, 1], P = side^2 pixels line by line from the top left.
        columns: Images in a row; the last row may be shorter.
        row_names: A name for each row, or none.
        column_names: A name for each column, or none.
        note: A line at the foot.

    Raises:
        VaelibError: The images are not square, `columns` is below 1, or names are missing.
    """
    pixels = style.as_array(images)
    if pixels.size == 0:
        return style.blank("no images yet")
    sheet, rows = _sheet(pixels, columns)
    for names, count, what in (
        (row_names, rows, "row_names"),
        (column_names, columns, "column_names"),
    ):
        if len(names) not in (0, count):
            raise VaelibError(f"{what} has {len(names)} entries; give {count}, or none.")
    tile = min(LARGEST, style.WIDTH / columns)
    figure = style.picture(rows * tile + MARGIN * (bool(note) + bool(column_names)) + 0.1)
    axes = figure.subplots()
    axes.imshow(sheet, "gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    step = (len(sheet) + 1) // rows
    centres = np.arange(max(rows, columns)) * step + (step - 2) / 2
    axes.set_xticks(centres[: len(column_names)], column_names)
    axes.set_yticks(centres[: len(row_names)], row_names)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    if note:
        style.footnote(figure, note)
    return figure


def _sheet(pixels: np.ndarray, columns: int) -> tuple[np.ndarray, int]:
    """All images on one sheet, gaps not a number (which is drawn as nothing), and the rows."""
    side = math.isqrt(pixels.shape[-1])
    if pixels.ndim != 2 or side * side != pixels.shape[1]:
        raise VaelibError(f"images have shape {list(pixels.shape)}; give [N, side * side].")
    if columns < 1:
        raise VaelibError(f"columns={columns}: use 1 or more.")
    rows = -(-len(pixels) // columns)
    tiles = np.full((rows * columns, side + 1, side + 1), np.nan, dtype=np.float32)
    tiles[: len(pixels), :side, :side] = pixels.reshape(-1, side, side)
    grid = tiles.reshape(rows, columns, side + 1, side + 1).transpose(0, 2, 1, 3)
    return grid.reshape(rows * (side + 1), columns * (side + 1))[:-1, :-1], rows
