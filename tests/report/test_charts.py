"""Charts: page, paper, captions and script draw the same list."""

import re
from pathlib import Path

import tune_btxrd.report
from tests.support.reports import StubSearch, make_checkpoints, make_settings
from tune_btxrd.report.charts import CHARTS
from tune_btxrd.report.figures import draw_all
from tune_btxrd.report.gather import gather
from tune_btxrd.report.words import captions

FOLDER = Path(tune_btxrd.report.__file__).parent


def test_every_chart_has_a_caption_a_figure_a_drawing_and_a_place(tmp_path: Path) -> None:
    folder = tmp_path / "stub"
    StubSearch(folder, make_settings(folder)).search(24).confirm().write()
    make_checkpoints(tmp_path / "checkpoints" / "stub")
    material = gather(folder)
    assert set(captions(material, None, None)) == set(CHARTS)
    drawn = [name for name, _ in draw_all(material, None, None)]
    assert drawn == [
        name for name in CHARTS if name not in ("importance", "landscape", "sizes")
    ]  # nothing measured for these
    script = (FOLDER / "charts.js").read_text(encoding="utf-8")
    assert set(re.findall(r"^  (\w+)\(d, shown, c\) \{", script, flags=re.MULTILINE)) == set(CHARTS)
    page = (FOLDER / "page.html").read_text(encoding="utf-8")
    assert set(re.findall(r'picture\("(\w+)"\)', page)) == set(CHARTS)
