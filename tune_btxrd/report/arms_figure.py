"""Picture of a label store's queue against random: score by images labelled, both arms with intervals."""

import io
from pathlib import Path

from matplotlib import rc_context

from tune_btxrd.errors import ResultError
from tune_btxrd.files import write_whole
from tune_btxrd.labels.arms import Arms
from tune_btxrd.report.canvas import STYLE, new_figure

COLOURS = {"ranked": "#0072B2", "random": "#E69F00"}  # Okabe-Ito
SHIFT = 0.006  # of the width, by which the arms' bars stand apart


def draw_arms(arms: Arms, path: Path) -> None:
    """A PNG of both arms. Raises: ResultError where there is nothing to draw yet, or the file cannot be written."""
    if not arms.points:
        raise ResultError(f"A picture needs both arms, but there is nothing to draw yet. {arms.verdict}")
    images, content = [point.images for point in arms.points], io.BytesIO()
    with rc_context(STYLE):  # type: ignore[arg-type]  # its stubs list every name
        figure, (axis,) = new_figure(2.6)
        for side, (arm, colour) in zip((-1, 1), COLOURS.items(), strict=True):
            found = [getattr(point, arm) for point in arms.points]
            intervals = [getattr(point, f"{arm}_interval") for point in arms.points]
            places = [image + side * SHIFT * max(images) for image in images]
            axis.vlines(places, [each.low for each in intervals], [each.high for each in intervals], color=colour, lw=0.8)
            axis.plot(places, found, marker="o", ms=3, color=colour, label=arm)
        axis.axhline(0.5, color="0.6", lw=0.6, ls=":")
        axis.set(xlabel="labelled images of the arm", ylabel="macro-AUC, 95 % interval")
        axis.legend(loc="lower right")
        figure.savefig(content, format="png", dpi=200)
    write_whole(path, content.getvalue())
