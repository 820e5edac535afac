"""A search over image sizes begins, is found again, and is refused where it cannot be, all before Ray is started."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tune_btxrd.cli.main import main
from tune_btxrd.config import TrainConfig
from tune_btxrd.data.phantom import PhantomSpec
from tune_btxrd.data.request import DataRequest
from tune_btxrd.errors import ConfigError
from tune_btxrd.pipeline.final_job import _RetrainProgress, _weights, sizes_of
from tune_btxrd.pipeline.place import Place
from tune_btxrd.pipeline.start import begin, complete_space, go_on, pixels
from tune_btxrd.results.checkpoints import RetrainJob
from tune_btxrd.results.search_json import Layout, SearchSettings, SpaceRequest

SPACE = ROOT / "tests" / "support" / "sizes.yaml"
SMALL = ("--phantom-count", "90", "--phantom-size", "96")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> SearchSettings:
    """A search over 32 and 48 px before its first trial."""
    root = tmp_path_factory.mktemp("sizes")
    data = DataRequest(cache=root / "cache", phantom=PhantomSpec(count=90, size=96))
    place = Place(name="sizes", storage=str(root), checkpoints=root / "checkpoints")
    hyperparameters = {"backbone": "test_efficientnet"}
    space = complete_space(SpaceRequest(file=SPACE, hyperparameters=hyperparameters), data)
    begin(place, data, space, splits=("stratified",))
    return go_on(place, data, SpaceRequest(), splits=("stratified",))


def test_every_size_is_decoded_and_found_again(begun: SearchSettings, tmp_path: Path) -> None:
    source = begun.source
    assert begun.image_size == 32 and source.sides == (32, 48) and source.cache == source.at(32).cache
    for size in (32, 48):
        assert source.images(size).images.shape[1:] == (size, size)
    folder = Path(source.splits).parent
    assert SearchSettings.load(folder).source == source
    shutil.rmtree(source.at(48).cache)
    before = Path(source.cache).stat().st_mtime_ns
    found, _ = pixels(begun)
    assert found == source and source.images(48).image_size == 48
    assert Path(source.cache).stat().st_mtime_ns == before
    moved, _ = pixels(begun, cache=tmp_path / "other")
    assert [Path(cache).parent for cache in moved.caches] == [tmp_path / "other"] * 2 and moved.sides == (32, 48)
    assert moved.cache == moved.at(32).cache


def test_results_of_one_size_stay_as_they_were(begun: SearchSettings, tmp_path: Path) -> None:
    """A search.json of a version that knew one size alone."""
    folder = tmp_path / "sizes"
    shutil.copytree(Path(begun.source.splits).parent, folder)
    plain = json.loads((folder / "search.json").read_text())
    del plain["source"]["sizes"]
    (folder / "search.json").write_text(json.dumps(plain))
    settings = SearchSettings.load(folder)
    assert settings.source.sizes == () and settings.source.caches == (begun.source.cache,)
    assert pixels(settings)[0].cache == begun.source.cache


def test_prepare_says_what_each_size_costs_and_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", *SMALL, "--cache", str(tmp_path), "--space", str(SPACE)]
    assert main(words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "32 px │ 0.1 MB │ 1.00" in shown and "48 px │ 0.2 MB │ 2.25" in shown
    made = {path.name.split("-")[1]: path for path in tmp_path.glob("images-*px-*") if path.is_dir()}
    assert set(made) == {"32px", "48px"}
    assert main(words) == 0


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["prepare", "--space", str(SPACE), "--image-size", "64"], "image_size=64 is searched there (32 | 48)"),
        (["run", "--space", str(SPACE), "--image-size", "64"], "image_size=64 is searched there (32 | 48)"),
        (["search", "--space", str(SPACE), "--set", "image_size=64"], "image_size=64 is searched there (32 | 48)"),
        (["prepare", "--space", str(SPACE), "--table-only"], "--table-only decodes no image, but --space"),
        (["prepare", "--phantom", "volumes", "--space", str(SPACE)], "`backbone` must take volumes"),
        (["prepare", "--space", "none.yaml"], "none.yaml"),
    ],
)
def test_what_contradicts_the_sizes_is_one_line(
    words: list[str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--cache", str(tmp_path / "cache")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and found in lines[0], lines


def test_a_size_that_a_backbone_does_not_take_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    data = DataRequest(cache=tmp_path / "cache", phantom=PhantomSpec(count=90, size=96))
    place = Place(name="x", storage=str(tmp_path), checkpoints=tmp_path / "checkpoints")
    space = SpaceRequest(file=SPACE, hyperparameters={"backbone": "vit_tiny_patch16_224"})
    with pytest.raises(ConfigError, match="takes 224 px and got image_size=32"):
        begin(place, data, complete_space(space, data), splits=("stratified",))
    assert not (tmp_path / "cache").exists()


def test_the_progress_of_the_final_job_counts_epochs_by_their_cost(tmp_path: Path) -> None:
    layout = Layout(slots=1, cpus=1, gpus=0, threads=1, epoch_seconds=2.0, size_seconds={"32": 2.0, "48": 2.0, "64": 7.0})
    sizes = {"winner": 64, "hand-made": 32}
    jobs = [
        RetrainJob(
            split="center",
            stem="center",
            role=role,
            seed_index=0,
            config=TrainConfig(image_size=size, epochs=9),
            root=tmp_path,
        )
        for role, size in sizes.items()
    ]
    assert sizes_of(jobs) == [32, 64] and _weights(jobs, layout) == {32: 1.0, 64: 3.5}
    told: list[float] = []
    progress = _RetrainProgress(told.append, _weights(jobs, layout))
    row = {"note": "", "stop": "", "objective": 0.5}
    for job, epoch in ((jobs[0], 1), (jobs[1], 1), (jobs[0], 2)):
        progress(job, row | {"epoch": epoch})
    progress(jobs[0], row | {"epoch": 3, "stop": "patience"})  # the epochs that it needs no more count as done
    assert told == [3.5, 4.5, 8.0, 9 * 3.5 + 1.0]
