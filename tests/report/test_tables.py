"""Tables of the report as files."""

from pathlib import Path

import pandas as pd

from tune_btxrd.report.tables import PRINTED, Sheet


def test_a_very_long_table_is_printed_in_part_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    frame = pd.DataFrame({"trial": range(PRINTED + 100)})
    Sheet(name="trials", title="All trials", frame=frame).write(tmp_path / "tables")
    latex = (tmp_path / "tables" / "trials.tex").read_text()
    assert f"the first {PRINTED} of {PRINTED + 100}; all are in trials.csv" in latex
    assert f"\n{PRINTED - 1} \\\\" in latex
    assert f"\n{PRINTED} \\\\" not in latex
    assert len(pd.read_csv(tmp_path / "tables" / "trials.csv")) == len(frame)
