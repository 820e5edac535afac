"""Import and export: what a store exports is what our table reader reads, and equal to what its own reader says."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.label_stores import LABELS, act, make_store, write_images
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.errors import DataError
from tune_btxrd.labels.add import add_folder
from tune_btxrd.labels.exchange import export_labels, import_labels
from tune_btxrd.labels.grouping import by_pattern
from tune_btxrd.labels.records import Act, NewImage
from tune_btxrd.labels.store import LabelStore

NAMES = ('Mass, "big"', "it's", "🫁 lung", "Ünklar", "a:b", "<i>")


def facts(manifest: Manifest) -> tuple[object, ...]:
    """All that decides a training, and the parts."""
    return (
        manifest.image_ids,
        manifest.files,
        manifest.targets.tolist(),
        manifest.class_names,
        manifest.groups,
        manifest.centers,
        manifest.task.name,
        manifest.positive_class,
        list(manifest.table["part"]),
    )


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    answers=st.lists(st.tuples(st.sampled_from([0, 1, None]), st.sampled_from([0, 1, None])), min_size=12, max_size=12),
    names=st.permutations(NAMES).map(lambda names: names[:2]),
    grouped=st.booleans(),
)
def test_what_is_exported_reads_back_equal(
    task: str, answers: list[tuple[int | None, int | None]], names: list[str], grouped: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_images(folder / "x", 12)
        with LabelStore.create(folder / "s.db", names, task=task, salt="s", holdout_share=0.3) as store:  # type: ignore[arg-type]
            add_folder(store, folder / "x", grouping=by_pattern(r"(p\d+)", folder / "x") if grouped else None)
            acts = []
            for number, values in enumerate(answers, start=1):
                said = dict(zip(names, values, strict=True))
                if task == "multiclass":
                    said = {names[number % 2]: 1} if values[0] is not None else {}
                if said:
                    acts.append(
                        Act(kind="label", image=number, annotator="a", client=f"{number}", arm="random", answers=said)
                    )
            store.record_all(acts)
            try:
                known = read_dataset(store.path)
            except DataError:
                return  # nothing known, or one class alone
            export_labels(store, folder)
        assert facts(read_dataset(folder)) == facts(known)
        with LabelStore.create(folder / "again.db", names, task=task, salt="s", holdout_share=0.3) as other:  # type: ignore[arg-type]
            add_folder(other, folder / "x", grouping=by_pattern(r"(p\d+)", folder / "x") if grouped else None)
            assert import_labels(other, folder / "manifest.csv").recorded == len(known)
            assert import_labels(other, folder / "manifest.csv").recorded == 0
            assert facts(read_dataset(other.path)) == facts(known)


def test_an_import_is_whole_or_not_at_all(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    with make_store(tmp_path, images=4) as store:
        table.write_text("path,label:Mass,label:nodule\np0/0.png,1,\np0/1.png,,0\np1/2.png,,\np1/3.png,2,1\n")
        with pytest.raises(DataError, match=r"must be 1, 0 or blank, but row 5 of .* has '2'"):
            import_labels(store, table)
        assert store.last_event == 0
        table.write_text("path,label:Mass,label:nodule\np0/0.png,1,\np0/1.png,,0\np1/2.png,,\n")
        found = import_labels(store, table, annotator="old")
        assert (found.rows, found.recorded, found.blank) == (3, 2, 1)
        assert store.known([1, 2, 3]).tolist() == [[1, -1], [-1, 0], [-1, -1]]
        assert store.pool().images == [1, 2, 3, 4]  # each has an unknown label
        table.write_text("path,label:Nodule\np0/0.png,1\n")
        assert import_labels(store, table, annotator="old").recorded == 1
        assert store.answers_of(1, "old") == {"Mass": 1, "Nodule": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label:Edema\np0/0.png,1\n", "must be a label of the store"),
        ("path,finding\np0/0.png,1\n", "columns label:NAME"),
        ("file,label:Mass\np0/0.png,1\n", "must name its images"),
        ("path,label:Mass\nq.png,1\n", r"must be in the store, but 1 are not \('q.png' in row 2"),
        ("path,label:Mass\np0/0.png,1\np0/0.png,0\n", "says otherwise"),
        ("image_id,label:Mass\nsame,1\n", "fits several"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with make_store(tmp_path, images=4) as store:
        store.insert_images([NewImage(path=f"{n}/same.png", sha256=f"{n}" * 64, size=1, mtime=1) for n in range(2)])
        with pytest.raises(DataError, match=message):
            import_labels(store, tmp_path / "t.csv")
        assert store.last_event == 0


def test_an_unknown_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\np0/0.png,Edema\n")
    with make_store(tmp_path, task="multiclass") as store, pytest.raises(DataError, match="one of Mass, Nodule"):
        import_labels(store, tmp_path / "t.csv")


def test_an_export_as_of_an_event_and_outside_the_images(tmp_path: Path) -> None:
    with make_store(tmp_path, images=4) as store:
        with pytest.raises(DataError, match="must hold labels"):
            export_labels(store)
        act(store, 1, dict.fromkeys(LABELS, 1))
        act(store, 2, dict.fromkeys(LABELS, 0))
        assert export_labels(store, event=1).images == 1
        assert export_labels(store).file == tmp_path / "p0" / "manifest.csv"
        (tmp_path / "other").mkdir()
        with pytest.raises(DataError, match=f"export to {tmp_path / 'p0'}"):
            export_labels(store, tmp_path / "other")


def test_an_export_keeps_what_lay_at_its_place(tmp_path: Path) -> None:
    """`labels add --group-table FOLDER/manifest.csv`, then `labels export`, which goes to that folder by itself."""
    own = "path,patient,note\np0/0.png,p0,by hand\n"
    with make_store(tmp_path, images=4) as store:
        act(store, 1, {"Mass": 1})
        assert export_labels(store, tmp_path).kept is None
        assert export_labels(store, tmp_path).kept is None  # the same again
        (tmp_path / "manifest.csv").write_text(own)
        first = export_labels(store, tmp_path)
        act(store, 2, {"Mass": 0})
        second = export_labels(store, tmp_path)
    assert first.kept == tmp_path / "manifest.1.csv" and first.kept.read_text() == own
    assert second.kept == tmp_path / "manifest.2.csv" and len(second.kept.read_text().splitlines()) == 2
    assert len((tmp_path / "manifest.csv").read_text().splitlines()) == 3


def test_known_targets_are_those_of_the_reader(tmp_path: Path) -> None:
    write_images(tmp_path / "x", 6)
    with LabelStore.create(tmp_path / "s.db", LABELS, salt="s", holdout_share=0.0) as store:
        add_folder(store, tmp_path / "x")
        act(store, 3, {"Mass": 1})
        act(store, 5, {"Mass": 0, "Nodule": 1})
        manifest = read_dataset(store.path)
        numbers = [row[0] for row in store.database.rows("SELECT image FROM images ORDER BY image_id")]
        rows = store.known(numbers)
        assert np.array_equal(manifest.targets, rows[(rows >= 0).any(axis=1)])


def test_a_table_may_name_images_through_a_link_to_their_folder(tmp_path: Path) -> None:
    write_images(tmp_path / "disk" / "x", 3, per_group=1)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "images").symlink_to(tmp_path / "disk" / "x")
    with LabelStore.create(tmp_path / "study" / "s.db", LABELS, salt="s") as store:
        add_folder(store, tmp_path / "study" / "images")
        (tmp_path / "study" / "t.csv").write_text("path,label:Mass\nimages/p00/0.png,1\nimages/p02/2.png,0\n")
        assert import_labels(store, tmp_path / "study" / "t.csv").recorded == 2
        assert store.known([1, 2, 3])[:, 0].tolist() == [1, -1, 0]
        (tmp_path / "study" / "t.csv").write_text("path,label:Mass\nimages/p00/9.png,1\n")
        with pytest.raises(DataError, match="must be in the store"):
            import_labels(store, tmp_path / "study" / "t.csv")
