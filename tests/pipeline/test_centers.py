"""Values by center: where they cannot be computed, or would look at a test part, a search is refused before it begins."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tune_btxrd.cli.main import main
from tune_btxrd.config import TrainConfig
from tune_btxrd.data.request import DataRequest
from tune_btxrd.data.splits.center_folds import CENTER_FOLDS
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.pipeline.centers import asked_folds
from tune_btxrd.pipeline.folds import check_folds
from tune_btxrd.pipeline.nested import make_outer_splits
from tune_btxrd.pipeline.place import Place
from tune_btxrd.pipeline.run import search
from tune_btxrd.pipeline.start import begin, complete_space, go_on
from tune_btxrd.results.search_json import SearchSettings, SpaceRequest

SPACE = """
trials: 2
epochs: 2
grace_period: 1
startup_trials: 1
confirm: 1
repeats: 3
monitor: macro_auc
{more}
fixed: {{backbone: test_efficientnet, image_size: 32, pretrained: false, batch_size: 16}}
space:
  lr: {{low: 1.0e-4, high: 1.0e-2, log: true}}
start:
  - {{lr: 1.0e-3}}
"""
WORST = "objective: worst_center"
COUNTS = {"A": (80, 60), "B": (70, 60), "C": (9, 3)}  # images of each class


@dataclass(frozen=True)
class Data:
    """A dataset on disk, and where its searches go."""

    root: Path
    cache: Path

    def begin(self, work: Path, more: str = WORST, **flags: object) -> SearchSettings:
        """A search that is prepared, as the verb would."""
        work.mkdir(parents=True, exist_ok=True)
        (work / "space.yaml").write_text(SPACE.format(more=more))
        request = DataRequest(data=self.root, cache=self.cache, groups="none")
        space = complete_space(SpaceRequest(file=work / "space.yaml"), request)
        splits, folds = asked_folds(flags.pop("splits", None), None)  # type: ignore[arg-type]
        place = Place(name="s", storage=str(work / "results"), checkpoints=work / "checkpoints")
        return begin(place, request, space, splits=splits, folds=folds, **flags)  # type: ignore[arg-type]

    def parts(self, settings: SearchSettings, stem: str) -> pd.DataFrame:
        """The images of a split with their centers, as they were written."""
        table = pd.read_csv(Path(settings.source.splits) / f"{stem}.csv", dtype=str)
        assert (table["center"] == table["image_id"].str[0]).all()
        return table


def write_data(root: Path, *, centers: bool = True) -> Path:
    """Noise; an image's id begins with its center."""
    rows, rng = [], np.random.default_rng(0)
    root.mkdir(parents=True)
    for center, counts in COUNTS.items():
        for number in range(sum(counts)):
            name = f"{center}{number:03d}"
            Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(root / f"{name}.png")
            label = "no" if number < counts[0] else "yes"
            rows.append({"image_id": name, "path": f"{name}.png", "label": label} | ({"center": center} if centers else {}))
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    work = tmp_path_factory.mktemp("centers")
    return Data(write_data(work / "data"), work / "cache")


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (
            {},
            r"two centers in validation with at least 5 images of each class .* val of split 'common' has center A: \d+ of",
        ),
        ({"split": "center", "splits": ("stratified",)}, "val of split 'center' has center A: 9 of the rarest class: leave"),
        ({"split": CENTER_FOLDS}, r"--split center_folds needs two centers .* have center A: \d+. Test parts stay unseen"),
        ({"splits": (CENTER_FOLDS,)}, r"val of split 'fold 1/2' has center A: 60 of the rarest class: leave each"),
    ],
)
def test_what_cannot_be_or_would_leak_is_refused_in_one_line(
    data: Data, tmp_path: Path, flags: dict[str, object], found: str
) -> None:
    with pytest.raises((DataError, ConfigError), match=found) as caught:
        data.begin(tmp_path, **flags)
    assert "\n" not in str(caught.value) and not (tmp_path / "results" / "s" / "search.json").exists()


def test_the_worst_center_of_the_stratified_split(data: Data, tmp_path: Path) -> None:
    settings = data.begin(tmp_path, splits=("stratified",))
    assert (
        settings.source.centers == ("A", "B", "C") and settings.spec(tmp_path / "results" / "s").objective == "worst_center"
    )
    training = settings.source.training_data("common")
    val = data.parts(settings, "common").query("part == 'val'")
    found = [settings.source.centers[index] for index in training.val_centers]
    assert pd.Series(found).value_counts().to_dict() == val["center"].value_counts().to_dict()
    for repeat in (1, 2, 3):  # partitions of confirmation keep the centers even
        part = data.parts(settings, f"confirm_{repeat}").query("part == 'val'")
        assert (part["center"] == "B").sum() >= 10


def test_center_folds_of_trials_see_no_test_part_and_confirm_on_left_out_centers(data: Data, tmp_path: Path) -> None:
    settings = data.begin(tmp_path, split=CENTER_FOLDS, splits=("stratified",))
    assert settings.flags.trial_centers == ("A", "B") and settings.flags.fold_centers == ()
    assert settings.spec(tmp_path / "results" / "s").folds_per_trial == 2
    tested = set(data.parts(settings, "stratified").query("part == 'test'")["image_id"])
    places = {"trial_fold_1_of_2": "A", "trial_fold_2_of_2": "B", "confirm_1": "A", "confirm_2": "B", "confirm_3": "A"}
    for stem, center in places.items():
        table = data.parts(settings, stem)
        assert not set(table["image_id"]) & tested
        assert set(table.query("part == 'val'")["center"]) == {center}
        assert set(table.query("part == 'train'")["center"]) == set(COUNTS) - {center}  # C is too small to be left out
    place = Place(name="s", storage=str(tmp_path / "results"), checkpoints=tmp_path / "checkpoints")
    go_on(place, DataRequest(), SpaceRequest(), split=CENTER_FOLDS)
    with pytest.raises(ConfigError, match="--split was center_folds and is now common"):
        go_on(place, DataRequest(), SpaceRequest(), split="common")


def test_center_folds_as_a_result(data: Data, tmp_path: Path) -> None:
    settings = data.begin(tmp_path, split=CENTER_FOLDS, splits=(CENTER_FOLDS,))
    assert settings.flags.folds == 2 and settings.flags.fold_centers == settings.flags.trial_centers == ("A", "B")
    assert list(settings.splits) == ["fold 1/2", "fold 2/2"]
    for stem, center in (("fold_1_of_2", "A"), ("fold_2_of_2", "B")):
        assert set(data.parts(settings, stem).query("part == 'val'")["center"]) == {center}


@pytest.mark.parametrize("more", [WORST, 'constraint: {center_gap: "<= 0.2"}'])
def test_a_dataset_without_centers_is_refused(tmp_path: Path, more: str) -> None:
    bare = Data(write_data(tmp_path / "data", centers=False), tmp_path / "cache")
    setting = more.partition(":")[0]
    with pytest.raises(DataError, match=f"`{setting}: .* needs images of two centers, but the dataset names no centers"):
        bare.begin(tmp_path / "work", more, splits=("stratified",))


def test_flags_that_contradict_center_folds(data: Data, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say it alone"):
        asked_folds(("stratified", CENTER_FOLDS), None)
    with pytest.raises(ConfigError, match="say it alone"):
        asked_folds((CENTER_FOLDS,), 3)
    with pytest.raises(ConfigError, match=r"--splits center_folds says on which images .* but got --seeds too"):
        check_folds(CENTER_FOLDS, splits=None, seeds=2)
    with pytest.raises(
        ConfigError, match=r"--splits center_folds is a result of run, .*: use verb `run` with the same flags"
    ):
        search(splits=(CENTER_FOLDS,))
    with pytest.raises(ConfigError, match="but the space has folds_per_trial: 3: leave one out"):
        data.begin(tmp_path, "folds_per_trial: 3", split=CENTER_FOLDS, splits=("stratified",))


def test_a_config_that_is_trained_alone_is_checked_too(data: Data, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="val of split 'center' has center A: 9 of the rarest class"):
        data.begin(
            tmp_path,
            "",
            splits=("center",),
            config=TrainConfig(
                backbone="test_efficientnet", image_size=32, pretrained=False, monitor="macro_auc", objective="worst_center"
            ),
        )


def test_a_nested_search_is_left_with_too_few_centers_before_the_first_trial(data: Data, tmp_path: Path) -> None:
    settings = data.begin(tmp_path, split=CENTER_FOLDS, splits=(CENTER_FOLDS,), nested=True)
    place = Place(name="s", storage=str(tmp_path / "results"), checkpoints=tmp_path / "checkpoints")
    with pytest.raises(DataError, match=r"val of split 'outer_1_of_2' has center B: \d+, C: \d+ .* leave out --nested"):
        make_outer_splits(settings, place)


@pytest.mark.slow
def test_a_search_and_its_result_on_left_out_centers(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text(SPACE.format(more=WORST).replace("confirm: 1", "confirm: 0"))
    flags = [
        "--data",
        str(data.root),
        "--cache",
        str(data.cache),
        "--groups",
        "none",
        "--slots",
        "2",
        "--cpus-per-trial",
        "1",
    ]
    split = ["--space", "space.yaml", "--epochs", "1", "--split", CENTER_FOLDS, "--splits", "stratified"]
    assert main(["search", "--name", "c", *flags, *split]) == 0
    rows = pd.read_csv("ray_results/c/epochs.csv")
    each = rows[["val_center_a", "val_center_b"]]
    assert len(rows) == 2 and rows["val_center_c"].isna().all()
    np.testing.assert_allclose(rows["val_worst_center"], each.min(axis=1))
    np.testing.assert_allclose(rows["center_gap"], each.max(axis=1) - each.min(axis=1))
    np.testing.assert_allclose(rows["objective"], -rows["val_worst_center"])
    assert main(["retrain", "c", "--splits", CENTER_FOLDS, "--cache", str(data.cache)]) == 0
    table = pd.read_csv("checkpoints/c/folds.csv")
    assert table["fold"].tolist()[:2] == ["center A", "center B"]
    said = pd.read_csv("checkpoints/c/out_of_fold/predictions.csv", dtype=str)
    assert ("center " + said["image_id"].str[0] == said["fold"]).all()
    tested = pd.read_csv("ray_results/c/splits/stratified.csv").query("part == 'test'")
    assert not set(said["image_id"]) & set(tested["image_id"])
    assert main(["report", "c"]) == 0 and "gap between validation centers" in Path("ray_results/c/report.html").read_text()
