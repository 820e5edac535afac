"""How a search begins and goes on: the same words again are accepted, others refused with both values; a cache that was
cleared is made again for every verb, and replaced images are noticed.
"""

import dataclasses
import json
import shlex
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support.paths import ROOT
from tests.support.reports import StubSearch, make_search, make_settings
from tune_btxrd.cli.flags import read_data, read_space, read_splits
from tune_btxrd.cli.main import main
from tune_btxrd.cli.parser import parse_words
from tune_btxrd.config import TrainConfig
from tune_btxrd.data.request import DataRequest
from tune_btxrd.errors import ConfigError, DataError, ResultError
from tune_btxrd.inference.model_card import _search
from tune_btxrd.pipeline.earlier import require_same_knowledge, with_knowledge
from tune_btxrd.pipeline.open_search import open_search
from tune_btxrd.pipeline.place import Place
from tune_btxrd.pipeline.start import begin, complete_space, go_on, load_spec, pixels
from tune_btxrd.pipeline.together import check_kind
from tune_btxrd.report.gather import gather
from tune_btxrd.report.words import head_lines
from tune_btxrd.results.search_json import SearchSettings, SpaceRequest
from tune_btxrd.search.record import read_settings
from tune_btxrd.tasks.registry import task_named

WORDS = [
    *("--phantom-count", "90", "--phantom-size", "96", "--groups", "patients", "--seed", "5", "--splits", "stratified"),
    *("--backbone", "test_efficientnet", "--image-size", "32", "--set", "clip=1.0", "--trials", "4", "--epochs", "6"),
]
OLD = ROOT / "tests" / "golden" / "results_0_1_0.tar.xz"


def said(root: Path, *words: str) -> dict[str, Any]:
    """What these flags of `search` say, as the functions of this page take it."""
    flags = parse_words(["search", "--cache", str(root / "cache"), *words])
    return {
        "data": read_data(flags),
        "space": read_space(flags),
        "split": flags.split,
        "splits": read_splits(flags),
        "device": flags.device,
    }


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A search that began with WORDS, before its first trial."""
    root = tmp_path_factory.mktemp("start")
    place = Place(name="first", storage=str(root / "ray results?v=2"), checkpoints=root / "check points")
    asked = said(root, *WORDS)
    asked["space"] = complete_space(asked["space"], asked["data"])
    begin(place, **asked)
    return place


def again(place: Place, *words: str) -> SearchSettings:
    return go_on(place, **said(place.folder.parents[1], *words))


def test_the_same_words_go_on(begun: Place) -> None:
    before = SearchSettings.load(begun.folder)
    after = again(begun, *WORDS)
    assert dataclasses.replace(after, resumed=()) == before
    assert again(begun).space == before.space


def test_a_split_given_as_a_file_is_called_by_its_name(begun: Place, tmp_path: Path) -> None:
    mine, other = tmp_path / "my own.csv", tmp_path / "other" / "my own.csv"
    for path, source in ((mine, "stratified"), (other, "common")):
        path.parent.mkdir(exist_ok=True)
        shutil.copy(begun.folder / "splits" / f"{source}.csv", path)
    place, words = Place(name="mine", storage=str(tmp_path)), ["--splits", str(mine), "--split", str(mine)]
    asked = said(begun.folder.parents[1], *WORDS, *words)
    asked["space"] = complete_space(asked["space"], asked["data"])
    settings = begin(place, **asked)
    assert settings.splits == {"my own": "my_own"} and settings.searched == "my_own"
    assert (place.folder / "splits" / "my_own.csv").is_file()
    assert go_on(place, **asked).splits == settings.splits
    with pytest.raises(DataError, match="a file of its own"):
        begin(Place(name="two", storage=str(tmp_path)), **asked | {"splits": (str(mine), str(other))})


def test_the_folds_of_trials_are_partitions_of_what_the_search_sees(begun: Place, tmp_path: Path) -> None:
    """Groups stay whole, no test part is touched, and folds that cannot be made are refused before anything is written."""
    space = tmp_path / "folds.yaml"
    space.write_text((begun.folder / "space.yaml").read_text() + "\nfolds_per_trial: 3\n")
    place, words = Place(name="folds", storage=str(tmp_path)), [*WORDS, "--space", str(space)]
    asked = said(begun.folder.parents[1], *words)
    asked["space"] = complete_space(asked["space"], asked["data"])
    begin(place, **asked)
    tables = [pd.read_csv(place.folder / "splits" / f"trial_fold_{number}_of_3.csv") for number in (1, 2, 3)]
    common = pd.read_csv(place.folder / "splits" / "common.csv")
    seen = set(common.loc[common["part"].isin(["train", "val"]), "image_id"])
    validated = [image_id for table in tables for image_id in table.loc[table["part"] == "val", "image_id"]]
    assert len(validated) == len(set(validated)) and set(validated) == seen
    for table in tables:
        assert set(table["image_id"]) == seen
        assert not set(table.loc[table["part"] == "val", "group"]) & set(table.loc[table["part"] == "train", "group"])
    space.write_text(space.read_text().replace("folds_per_trial: 3", "folds_per_trial: 50"))
    with pytest.raises(DataError, match=r"`folds_per_trial: 50` of the search space: .*use fewer folds than 50"):
        begin(Place(name="many", storage=str(tmp_path)), **asked)
    assert not (tmp_path / "many").exists()


@pytest.mark.parametrize(
    ("words", "began", "now"),
    [
        (["--groups", "none"], "patients", "none"),
        (["--seed", "6"], "5", "6"),
        (["--phantom-count", "120"], "90", "120"),
        (["--positive-class", "Benign"], "not said", "Benign"),
        (["--exclude", "ids.txt"], "not said", "ids.txt"),
        (["--backbone", "test_resnet"], "test_efficientnet", "test_resnet"),
        (["--image-size", "64"], "32", "64"),
        (["--set", "clip=2"], "1.0", "2.0"),
        (["--pretrained"], "False", "True"),
        (["--epochs", "7"], "6", "7"),
        (["--split", "stratified"], "common", "stratified"),
        (["--splits", "stratified,center"], "stratified", "center"),
        (["--set", "lr=0.01"], "lr", "searched"),
    ],
)
def test_other_values_are_refused_with_both(begun: Place, words: list[str], began: str, now: str) -> None:
    kept = (begun.folder / "search.json").read_bytes()
    with pytest.raises(ConfigError) as refusal:
        again(begun, *words)
    assert began in str(refusal.value) and now in str(refusal.value)
    assert (begun.folder / "search.json").read_bytes() == kept


def known(space: SpaceRequest, names: list[str], place: Place, *, task: str = "multiclass") -> SpaceRequest:
    return with_knowledge(space, names, place, spec=load_spec(space), task=task_named(task))


def test_earlier_searches_are_told_where_they_came_from_and_kept(begun: Place, tmp_path: Path) -> None:
    make_search(tmp_path / "old", name="old")
    settings = make_settings(tmp_path / "older", name="older")
    StubSearch(tmp_path / "older", settings, seed=3).search(12).confirm().write()
    winner, second = (open_search(name, storage=str(tmp_path)).selection.winner for name in ("old", "older"))
    asked = said(begun.folder.parents[1], *WORDS)
    space = complete_space(asked["space"], asked["data"])
    place = Place(name="new", storage=str(tmp_path))
    settings = begin(place, **asked | {"space": known(space, ["old", "older"], place)})
    kept = SearchSettings.load(place.folder).space.knowledge
    assert [(item.search, item.trial) for item in kept] == [("old", winner.label), ("older", second.label)]
    spec = settings.spec(place.folder)
    assert [dict(values) for values in spec.start[1:]] == [dict(winner.params), dict(second.params)] and winner != second
    assert {item.name: item.prior for item in spec.space} == dict(winner.params), "of the first that knows the value"
    assert "confirmed" in kept[0].score, "what is told is the mean of its repeats, not its luck"
    require_same_knowledge(["old", "older"], kept)
    require_same_knowledge([], kept)
    for names, began in ((["older", "old"], kept), (["old"], ())):
        with pytest.raises(ConfigError, match="--from-search is for the beginning"):
            require_same_knowledge(names, began)
    assert go_on(place, **asked).space.knowledge == kept
    told = [line for line in head_lines(gather(place.folder)) if line.startswith("Began from search old")]
    assert len(told) == 2 and f"trial {winner.label} (" in told[0] and "lr=" in told[0]
    card = _search(read_settings(place.folder), place.folder)
    assert [line for line in card if line.startswith("- Began")] == [f"- Began {item}" for item in kept]


def test_one_earlier_search_as_it_was_kept_before_there_could_be_more(begun: Place, tmp_path: Path) -> None:
    shutil.copytree(begun.folder, tmp_path / "first")
    path = tmp_path / "first" / "search.json"
    content = json.loads(path.read_text())
    for before, now in ((None, []), ({"search": "a", "trial": "7", "score": "0.5", "values": {"lr": 1e-4}}, ["a"])):
        content["space"]["knowledge"] = before
        path.write_text(json.dumps(content))
        assert [item.search for item in SearchSettings.load(path.parent).space.knowledge] == now


def test_spaces_that_differ_are_mapped_by_name_and_what_is_dropped_is_said(tmp_path: Path, capsys) -> None:
    make_search(tmp_path / "old", name="old")
    other = tmp_path / "other.yaml"
    space = "lr: {low: 1.0e-5, high: 1.0e-2, log: true}, dropout: {low: 0.6, high: 0.9}, batch_size: {choices: [16, 32]}"
    other.write_text(f"space: {{{space}}}\nstart: [{{lr: 1.0e-3, dropout: 0.7, batch_size: 16}}]\n")
    found = known(SpaceRequest(file=other), ["old"], Place(name="new", storage=str(tmp_path))).knowledge[0]
    assert set(found.values) == {"lr", "batch_size"}, "what was fixed there may be searched here"
    assert (found.left_out, found.unused) == (("dropout",), ("weight_decay",))
    said = " ".join(capsys.readouterr().out.split())
    assert "outside of this space: dropout; searched there and not here: weight_decay" in said


@pytest.mark.parametrize(
    ("names", "task", "told"),
    [
        (["old"], "multilabel", "old was multiclass and this one is multilabel: leave it out"),
        (["old", "old"], "multiclass", "old is there twice"),
        (["none"], "multiclass", "none"),
    ],
)
def test_an_earlier_search_that_does_not_fit_is_one_line(names: list[str], task: str, told: str, tmp_path: Path) -> None:
    make_search(tmp_path / "old", name="old")
    narrow = tmp_path / "narrow.yaml"
    narrow.write_text("space:\n  lr: {low: 1.0e-5, high: 1.0e-2, log: true}\nstart:\n  - {lr: 1.0e-3}\n")
    with pytest.raises((ConfigError, ResultError), match=r"^[^\n]+$") as caught:
        known(SpaceRequest(file=narrow), names, Place(name="new", storage=str(tmp_path)), task=task)
    assert told in str(caught.value)


def test_an_earlier_search_that_tells_nothing_of_this_space_is_refused(begun: Place, tmp_path: Path) -> None:
    make_search(tmp_path / "old", name="old")
    narrow = tmp_path / "narrow.yaml"
    narrow.write_text("space:\n  batch_size: {choices: [64, 128]}\nstart:\n  - {batch_size: 64}\n")
    with pytest.raises(ConfigError, match=r"batch_size.*widen the space"):
        known(SpaceRequest(file=narrow), ["old"], Place(name="new", storage=str(tmp_path)))


def test_images_that_an_earlier_search_saw_are_counted_in_the_test_parts(begun: Place, tmp_path: Path) -> None:
    """`common` sees no image of a test part; what it begins with was chosen on `stratified`, which holds some of them."""
    root = begun.folder.parents[1]
    words = [*WORDS[:-8], "--image-size", "32", "--splits", "stratified,center"]
    asked = said(root, *words)
    space = complete_space(asked["space"], asked["data"])
    first = Place(name="a", storage=str(tmp_path))
    begin(first, **asked | {"space": space, "split": "stratified"})
    StubSearch(first.folder, SearchSettings.load(first.folder)).search(4, odd=False).confirm().write()
    place = Place(name="b", storage=str(tmp_path))
    leak = begin(place, **asked | {"space": known(space, ["a"], place)}).flags.leak
    parts = {name: pd.read_csv(place.folder / "splits" / f"{name}.csv", dtype=str) for name in ("stratified", "center")}
    seen = set(parts["stratified"].query("part != 'test'")["image_id"])
    wanted = len(seen & set(parts["center"].query("part == 'test'")["image_id"]))
    assert leak == {"stratified": 0, "center": wanted} and wanted > 0


def test_another_space_is_refused_and_more_trials_are_taken(begun: Place, tmp_path: Path) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text("space: {lr: {low: 1.0e-5, high: 1.0e-2, log: true}}\nstart: [{lr: 1.0e-3}]\n")
    with pytest.raises(ConfigError, match=r"--space was .*space\.yaml and is now .*mine\.yaml"):
        again(begun, "--space", str(space))
    shutil.copy(ROOT / "search_spaces" / "phantom.yaml", tmp_path / "same.yaml")
    more = again(begun, "--space", str(tmp_path / "same.yaml"), "--trials", "9", "--confirm", "1")
    assert more.spec(begun.folder).trials == 9 and more.spec(begun.folder).confirm == 1
    assert SearchSettings.load(begun.folder).space == more.space


@pytest.mark.parametrize("flag", ["storage", "checkpoints"])
def test_where_nothing_can_be_written_nothing_is_drawn_or_decoded(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A search would only end there, after the audit; its checkpoints are written hours later."""
    folders = {"storage": str(tmp_path / "results"), "checkpoints": str(tmp_path / "checkpoints")} | {flag: "/proc/none"}
    words = [word for name, folder in folders.items() for word in (f"--{name}", folder)]
    assert main(["search", "--cache", str(tmp_path / "cache"), "--name", "first", *WORDS, *words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("tune-btxrd: /proc/none/first must be writable") and f"--{flag}" in told and told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_split_that_was_changed_is_noticed(begun: Place) -> None:
    """One image of the validation part now trains: the search would go on with other numbers."""
    table = begun.folder / "splits" / "common.csv"
    kept = table.read_text()
    table.write_text(kept.replace(",val,", ",train,", 1))
    with pytest.raises(DataError, match=r"began with, but .*common\.csv was changed since: restore it"):
        again(begun)
    table.write_text(kept)
    assert set(again(begun).split_sha256) >= {"common", "stratified", "targets"}


def test_a_search_and_a_training_do_not_go_on_as_each_other(begun: Place) -> None:
    with pytest.raises(ResultError, match="is a search: go on with `python -m tune_btxrd run --name first --resume"):
        go_on(begun, DataRequest(), complete_space(said(begun.folder)["space"], DataRequest()), config={})


def test_a_training_goes_on_with_its_own_space_alone(begun: Place, tmp_path: Path) -> None:
    other = tmp_path / "mine.yaml"
    other.write_text("space: {lr: {low: 1.0e-5, high: 1.0e-2, log: true}}\nstart: [{lr: 1.0e-3}]\n")
    settings = SearchSettings.load(begun.folder)
    dataclasses.replace(settings, kind="train", config=settings.spec(begun.folder).hand_made.to_dict()).save(begun.folder)
    try:
        with pytest.raises(ConfigError, match=r"--space was .*space\.yaml and is now .*mine\.yaml"):
            go_on(begun, DataRequest(), SpaceRequest(file=other), config={})
        go_on(begun, DataRequest(), SpaceRequest(file=begun.folder / "space.yaml"), config={})
    finally:
        settings.save(begun.folder)


def test_a_printed_command_can_be_typed(begun: Place) -> None:
    words = shlex.split(begun.command("run", "--seeds", "2"))
    assert words[:4] == ["python", "-m", "tune_btxrd", "run"]
    flags = parse_words(words[3:])
    typed = Place(name=flags.name, storage=flags.storage, checkpoints=flags.checkpoints)
    assert typed == begun and flags.resume and flags.seeds == 2
    for verb in ("retrain", "export", "report", "evaluate", "watch", "trial"):
        number = ["3"] if verb == "trial" else []
        flags = parse_words([*shlex.split(begun.command(verb))[3:], *number])
        assert (flags.verb, flags.name, flags.storage) == (verb, begun.name, begun.storage)


def test_a_cleared_cache_is_made_again(begun: Place, tmp_path: Path) -> None:
    settings = SearchSettings.load(begun.folder)
    known = Path(settings.source.cache)
    source, request = pixels(settings)
    assert source == settings.source and request == settings.request
    elsewhere, _ = pixels(settings, cache=tmp_path / "other")
    assert Path(elsewhere.cache).name == known.name and Path(elsewhere.cache).parent == tmp_path / "other"
    shutil.rmtree(known)
    made, _ = pixels(settings)
    assert made == settings.source and known.is_dir()


def test_replaced_images_are_noticed(tmp_path: Path) -> None:
    from PIL import Image

    data = tmp_path / "data"
    lines = ["image_id,path,label", *(f"{n},{n}.png,{'ab'[n % 2]}" for n in range(40))]
    data.mkdir()
    (data / "manifest.csv").write_text("\n".join(lines) + "\n")
    for number in range(40):
        Image.new("L", (40, 40), number * 3).save(data / f"{number}.png")
    place = Place(name="x", storage=str(tmp_path / "results"), checkpoints=tmp_path / "checkpoints")
    asked = said(tmp_path, "--data", str(data), *WORDS[8:])
    asked["space"] = complete_space(asked["space"], asked["data"])
    settings = begin(place, **asked)
    Image.new("L", (40, 40), 200).save(data / "7.png")
    shutil.rmtree(settings.source.cache)
    with pytest.raises(DataError, match=r"files in .* have been replaced since"):
        again(place)


def test_a_loss_of_the_other_task_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "manifest.csv").write_text("image_id,path,label:a,label:b\n1,1.png,1,0\n2,2.png,0,1\n")
    classes, labels = WORDS, ("--data", str(tmp_path / "labels"), *WORDS[8:])
    place = Place(name="x", storage=str(tmp_path / "results"), checkpoints=tmp_path / "checkpoints")
    for words, loss, own in ((labels, "weighted_ce", "weighted_bce"), (classes, "asymmetric", "weighted_ce")):
        asked = said(tmp_path, *words, "--set", f"loss={loss}")
        asked["space"] = complete_space(asked["space"], asked["data"])
        with pytest.raises(ConfigError, match=f"one of {own}, .* but got loss='{loss}'"):
            begin(place, **asked)
        assert not place.folder.exists() and not (tmp_path / "cache").exists()


def test_a_validation_part_that_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "data").mkdir()
    for number in range(40):
        Image.new("L", (40, 40), number * 3).save(tmp_path / "data" / f"{number}.png")
    lines = ["image_id,path,label:a,group", *(f"{n},{n}.png,{int(n < 2)},g{n // 2}" for n in range(40))]
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(lines) + "\n")
    place = Place(name="x", storage=str(tmp_path / "results"), checkpoints=tmp_path / "checkpoints")
    asked = said(tmp_path, "--data", str(tmp_path / "data"), *WORDS[8:])
    asked["space"] = complete_space(asked["space"], asked["data"])
    with pytest.raises(DataError, match="known yes and a known no of some label for monitor macro_auc"):
        begin(place, **asked)


def test_results_of_0_1_0_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    for words in (["list"], ["watch", "old"], ["report", "old", "--quiet"]):
        assert main(words) == 0, capsys.readouterr().err
    settings = SearchSettings.load(tmp_path / "ray_results" / "old")
    assert settings.layout is not None and settings.layout.slots == 1 and settings.environment.tune_btxrd == "0.1.0"
    assert settings.checkpoints == tmp_path / "checkpoints" / "old"
    old = open_search("old")
    assert len(old.trials) and set(old.curves()) <= set(old.trials["trial"]) and old.winner.image_size == 32
    go_on(Place(name="old"), DataRequest(cache=tmp_path / "cache"), said(tmp_path)["space"])
    assert json.loads((tmp_path / "ray_results" / "old" / "search.json").read_text())["resumed"]


@pytest.mark.parametrize("name", ["border", "blur", "equalize", "invert"])
def test_scanners_of_radiographs_are_refused_for_volumes(name: str) -> None:
    config = TrainConfig(backbone="resnet3d_10", pretrained=False, **{name: 0.01})
    with pytest.raises(ConfigError, match=f"`{name}` imitates scanners of radiographs, but the dataset holds volumes"):
        check_kind(config, volumes=True)
    check_kind(TrainConfig(backbone="resnet3d_10", pretrained=False, gamma=0.1), volumes=True)
