"""What the tests of pictures share: their words, and whether they fit the book and can be read."""

from matplotlib.text import Text

from vaelib.plots.style import INK, WIDTH, Picture


def letters(figure: Picture) -> list[Text]:
    """Every text of a picture that is seen."""
    return [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]


def words(figure: Picture) -> list[str]:
    """What these texts say."""
    return [t.get_text() for t in letters(figure)]


def check_fits(figure: Picture) -> None:
    """The book's width, letters of nine points and more, nothing beyond the edge, no ground."""
    assert figure.get_size_inches()[0] == WIDTH
    assert min(t.get_fontsize() for t in letters(figure)) >= 9
    box, (wide, high) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.02
    assert box.x1 < wide + 0.02
    assert box.y1 < high + 0.02
    assert figure.get_facecolor()[3] == 0
    assert all(axes.get_facecolor()[3] == 0 for axes in figure.axes)


def check_ink(figure: Picture) -> None:
    """All text is the grey that light and dark pages both bear."""
    assert {t.get_color() for t in letters(figure)} == {INK}
