"""A confirmation that fits the time budget, and what a search that goes on keeps."""

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.reports import make_settings
from tune_btxrd import console
from tune_btxrd.errors import ConfigError
from tune_btxrd.pipeline.search_job import epochs_of_trials, fitted
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.search.budget import confirm_epochs


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is said."""
    out = io.StringIO()
    monkeypatch.setattr(console, "OUT", Console(file=out, highlight=False, soft_wrap=True, width=200))
    return out


def budgeted(folder: Path, epochs: float, **asked: object) -> SearchSettings:
    """A search with time for so many epochs beside the final job: two splits, winner and hand-made config, one seed."""
    settings = make_settings(folder)
    assert settings.layout is not None
    spec = settings.spec(folder)
    retrained = 2 * 2 * spec.epochs * 1.3
    budget = (epochs + retrained) * settings.layout.epoch_seconds / settings.layout.slots
    (folder / "journal.jsonl").touch()
    space = dataclasses.replace(settings.space, settings={"recommend": "model", **asked})
    return dataclasses.replace(settings, space=space, flags=dataclasses.replace(settings.flags, time_budget=budget))


@pytest.mark.parametrize(("trainings", "size"), [(27, (2, 3)), (26.9, (2, 2)), (18, (2, 2)), (17.9, (0, 3))])
def test_the_confirmation_takes_a_third_of_the_time_at_most(
    trainings: float, size: tuple[int, int], tmp_path: Path, shown: io.StringIO
) -> None:
    folder = tmp_path / "stub"
    settings = budgeted(folder, trainings * 27 + 1e-6)
    assert (settings.spec(folder).epochs, settings.spec(folder).confirm, settings.spec(folder).repeats) == (27, 2, 3)
    fit = fitted(settings, folder, seeds=1)
    spec = SearchSettings.load(folder).spec(folder)  # kept for those who go on
    assert (spec.confirm, spec.repeats) == size == (fit.spec(folder).confirm, fit.spec(folder).repeats)
    said = shown.getvalue()
    assert ("none; it needs a time budget of" in said) is (size[0] == 0) and "a third of the time at most" in said


@pytest.mark.parametrize(("trainings", "size"), [(4 * 27, (2, 3)), (4 * 27 - 0.1, (2, 2)), (4 * 17.9, (0, 3))])
def test_the_third_is_kept_at_the_largest_image_size_too(
    trainings: float, size: tuple[int, int], tmp_path: Path, shown: io.StringIO
) -> None:
    """An epoch at 128 px was measured to take four of one at 64 px: everything takes four times the time, at most."""
    folder = tmp_path / "stub"
    settings = budgeted(folder, 0.0)
    space = (folder / "space.yaml").read_text().replace("space:\n", "space:\n  image_size: {choices: [64, 128]}\n", 1)
    (folder / "space.yaml").write_text(space.replace("  - {", "  - {image_size: 64, "))
    assert settings.layout is not None
    epoch = settings.layout.epoch_seconds
    layout = dataclasses.replace(settings.layout, size_seconds={"64": epoch, "128": 4 * epoch})
    whole = (trainings * 27 + 4 * 2 * 2 * 27 * 1.3 + 1e-6) * epoch / layout.slots
    flags = dataclasses.replace(settings.flags, time_budget=whole)
    fit = fitted(dataclasses.replace(settings, layout=layout, flags=flags), folder, seeds=1)
    assert (fit.spec(folder).confirm, fit.spec(folder).repeats) == size


@pytest.mark.parametrize(("trainings", "size"), [(27, (2, 3)), (26, (2, 2)), (17, (0, 3))])
def test_an_epoch_budget_has_room_for_the_confirmation(
    trainings: int, size: tuple[int, int], tmp_path: Path, shown: io.StringIO
) -> None:
    folder = tmp_path / "stub"
    free = budgeted(folder, 0)
    settings = dataclasses.replace(
        free, flags=dataclasses.replace(free.flags, time_budget=None, epoch_budget=trainings * 27)
    )
    fit = fitted(settings, folder, seeds=1)
    spec = fit.spec(folder)
    assert (spec.confirm, spec.repeats) == size and epochs_of_trials(fit, spec) == trainings * 27 - confirm_epochs(spec)
    said = shown.getvalue()
    assert ("none; it needs an epoch budget of 486" in said) is (size[0] == 0) and "a third of the epochs at most" in said
    little = dataclasses.replace(fit, flags=dataclasses.replace(fit.flags, epoch_budget=3 * 3 * 27))
    with pytest.raises(ConfigError, match=r"^--epoch-budget must exceed .* 243 is not above 243 \(3 configs x 3 repeats"):
        epochs_of_trials(little, free.spec(folder))


def test_a_confirmation_that_was_asked_for_and_a_search_without_a_budget_stay_as_they_are(
    tmp_path: Path, shown: io.StringIO
) -> None:
    asked = budgeted(tmp_path / "stub", 10, confirm=3)
    assert fitted(asked, tmp_path / "stub", seeds=1) is asked
    free = make_settings(tmp_path / "stub")
    assert fitted(free, tmp_path / "stub", seeds=1) is free and not shown.getvalue()


def test_a_search_of_an_earlier_version_keeps_its_defaults(tmp_path: Path) -> None:
    old, folder = make_settings(tmp_path / "stub"), tmp_path / "stub"
    text = (folder / "space.yaml").read_text()
    assert "scheduler" not in text
    assert (old.spec(folder).recommend, old.spec(folder).scheduler) == ("best", "asha")
    written = dataclasses.replace(old, space=dataclasses.replace(old.space, settings={"scheduler": "promote"}))
    assert written.spec(folder).scheduler == "promote"  # as those that are begun now have it
    (folder / "space.yaml").write_text(f"scheduler: none\n{text}")
    assert old.spec(folder).scheduler == "none"
    assert budgeted(tmp_path / "stub", 10).spec(tmp_path / "stub").recommend == "model"
