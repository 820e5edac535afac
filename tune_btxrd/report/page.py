"""report.html: one file that needs no network, no server, no torch and no Ray; figures/ and tables/ beside it."""

import base64
import gzip
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]  # Plotly ships no types

from tune_btxrd.files import write_whole
from tune_btxrd.report import words
from tune_btxrd.report.canvas import save
from tune_btxrd.report.figures import draw_all
from tune_btxrd.report.gather import Material, gather
from tune_btxrd.report.importance import Importances, importances
from tune_btxrd.report.landscape import Landscape, landscape
from tune_btxrd.report.opened_parts import PICTURES
from tune_btxrd.report.payload import payload, to_script
from tune_btxrd.report.tables import Sheet, sheets
from tune_btxrd.search.record import STATE_WORDS
from tune_btxrd.version import __version__

HERE = Path(__file__).parent
FILE = "report.html"
SECTIONS = ("Result", "Search", "Hyperparameters", "Time", "Trials", "Data", "Reproduce")
OF_A_SEARCH = SECTIONS[1:5]
WORDY = {
    "reason",
    "state",
    "config",
    "metric",
    "label",
    "operating point",
    "split",
    "verdict",
    "hyperparameter",
    "work",
    "finding",
    "where",
    "strength",
    "meaning",
    "cure",
}
STEPS = 4


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row of a table on the page.

    Attributes:
        cells: (column, text); opens: label of the trial that a click opens, or "".
        marks: HTML attributes of the row.
    """

    cells: list[tuple[str, str]]
    opens: str
    marks: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """A sheet as `page.html` shows it; `words` are the columns of running text."""

    name: str
    title: str
    columns: list[str]
    rows: list[TableRow]
    words: set[str]


def write_report(
    folder: Path, *, checkpoints: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Writes `report.html`, `figures/` and `tables/` into a results folder; returns the page.

    Args:
        folder: of a search or of verb `train`; it may be running, killed, or copied from elsewhere.
        checkpoints: `checkpoints/<name>`; default: as `search.json` says, else beside the results.
        progress: called with (done, total) steps.

    Raises:
        ResultError: no search there, it is damaged, or the folder is not writable.
    """
    advance = progress or (lambda done, total: None)
    material = gather(folder, checkpoints=checkpoints)
    advance(1, STEPS)
    found = importances(material.record, material.spec) if material.spec else None
    surface = landscape(material.record, material.spec) if material.spec else None
    advance(2, STEPS)
    stills = {name: save(figure, folder / "figures", name) for name, figure in draw_all(material, found, surface)}
    advance(3, STEPS)
    made = sheets(material, found)
    for sheet in made.values():
        sheet.write(folder / "tables")
    write_whole(folder / FILE, render(material, found, surface, made, stills))
    advance(STEPS, STEPS)
    return folder / FILE


def render(
    material: Material,
    found: Importances | None,
    surface: Landscape | None,
    made: dict[str, Sheet],
    stills: dict[str, str],
) -> str:
    """The page as text. Every name in it is escaped: in HTML by the template, in scripts by `to_script`."""
    searched = material.spec is not None
    sections = [title for title in SECTIONS if searched or title not in OF_A_SEARCH]
    template = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    ).get_template("page.html")
    return template.render(
        version=__version__,
        made=time.strftime("%Y-%m-%d %H:%M"),
        name=material.settings.name,
        head=words.head_lines(material),
        sections=[(title.lower(), title) for title in sections],
        searched=searched,
        opened=bool(material.opened_parts),
        headlines=words.headlines(material),
        summary=words.summary_lines(material),
        warnings=words.warning_lines(material),
        states=words.trials_line(material),
        test_lines=words.test_lines(material),
        test_pictures=_test_pictures(material),
        filters=_filters(material),
        importance_line=words.importance_line(found) if found else "",
        pictures=_pictures(material, found, surface, stills),
        tables=_tables(material, made),
        data_lines=words.data_lines(material),
        commands=words.reproduce_lines(material),
        environment=words.environment_pairs(material),
        style=_text("style.css"),
        script=_text("charts.js") + _text("page.js"),
        data=to_script(payload(material, found, surface)),
        plotly=packed_plotly(),
    )


@cache
def packed_plotly() -> str:
    """The plotting library as Plotly ships it, packed to a third: the page unpacks it once its words are on the screen."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _filters(material: Material) -> list[tuple[str, str, int]]:
    states = [trial.state for trial in material.record.search_trials]
    return [(state, text, states.count(state)) for state, text in STATE_WORDS.items() if state in states]


def _pictures(
    material: Material, found: Importances | None, surface: Landscape | None, stills: dict[str, str]
) -> dict[str, dict[str, str] | None]:
    told = words.captions(material, found, surface)
    return {
        key: {"title": title, "caption": caption, "svg": base64.b64encode(stills[key].encode()).decode()}
        if key in stills
        else None
        for key, (title, caption) in told.items()
    }


def _test_pictures(material: Material) -> list[dict[str, str]]:
    """ROC, precision and recall, reliability and confusion of every test part, as `evaluate` drew them."""
    return [
        {"title": f"{part.split}: {PICTURES[name]}", "png": base64.b64encode(content).decode()}
        for part in material.opened_parts
        for name, content in part.pictures.items()
    ]


def _tables(material: Material, made: dict[str, Sheet]) -> dict[str, PageTable | None]:
    wanted = (
        "final_job",
        "test_scores",
        "test_averages",
        "test_labels",
        "operating_points",
        "confirmation",
        "recommendation",
        "rungs",
        "pareto",
        "center_gap",
        "importance",
        "sizes",
        "slot_time",
        "trials",
    )
    tables = {name: _table(made[name], material) if name in made else None for name in wanted}
    tables |= {"findings": None, "calm": None}
    if material.findings is not None:
        calm = material.findings["strength"].astype(str).str.startswith("weak")
        for name, title, frame in (
            ("findings", "Findings of the audit", material.findings[~calm]),
            ("calm", "Checks that found next to nothing", material.findings[calm]),
        ):
            tables[name] = _table(Sheet(name=name, title=title, frame=frame), material) if len(frame) else None
    return tables


def _table(sheet: Sheet, material: Material) -> PageTable:
    """A sheet as the template needs it; a row of a trial opens it and is filtered by its state."""
    text = sheet.text()
    winner = material.selection.winner.label if material.selection else None
    columns = [str(name) for name in text]
    rows = [_row({str(name): cell for name, cell in cells.items()}, material, winner) for cells in text.to_dict("records")]
    return PageTable(name=sheet.name, title=sheet.title, columns=columns, rows=rows, words=WORDY & set(columns))


def _row(cells: Mapping[str, str], material: Material, winner: str | None) -> TableRow:
    label = cells.get("trial", "").removesuffix(" (hand-made)")
    trial = material.record.trials.get(label)
    marks: dict[str, str] = {}
    if trial is not None:
        marks = {"data-state": trial.state} if "state" in cells else {}
        marks |= {"class": "winner"} if label == winner else {}
    return TableRow(cells=list(cells.items()), opens=label if trial else "", marks=marks)
