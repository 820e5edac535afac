"""A folder of DICOM images through preparing, training, predicting and labelling: the numbers of the PNGs that they were
made from, and nothing of a marked patient in anything that is left or printed.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.dicoms import MARKS, drawn, write_dicom
from tests.support.finished_search import CONFIG, SIZE
from tests.support.toy_training import numbers
from tune_btxrd.cli.main import main
from tune_btxrd.data.request import DataRequest
from tune_btxrd.inference.open_model import open_model
from tune_btxrd.pipeline.prepare import Prepared, prepare, write_prepared
from tune_btxrd.training.checkpoint import checkpoint_dict, save
from tune_btxrd.training.loop import train
from tune_btxrd.training.slot import Slot

pytest.importorskip("pydicom")
pytestmark = pytest.mark.slow
COUNT = 12  # images of a class
WINDOW = (128.0, 200.0)


@dataclass(frozen=True)
class Done:
    prepared: Prepared
    records: list[dict[str, object]]
    model: Path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures twice: `png/CLASS/N.png`, and `dicom/CLASS/N.dcm` of a marked patient each."""
    root = tmp_path_factory.mktemp("dicom_job")
    for kind in range(2):
        for number in range(COUNT):
            pixels = drawn(100 * kind + number, (40, 32)) // 2 + 80 * kind
            (root / "png" / "uv"[kind]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / "png" / "uv"[kind] / f"{number:02}.png")
            patient = f"{MARKS[2]}-{kind}-{number}"
            path = root / "dicom" / "uv"[kind] / f"{number:02}.dcm"
            write_dicom(path, pixels.astype(np.uint8), patient=patient, study=f"{MARKS[7]}.{kind}.{number}")
    return root


def done(home: Path, kind: str, window: tuple[float, float] | None = None) -> Done:
    """Prepared and trained as a search trains, without Ray."""
    name = kind if window is None else f"{kind}_window"
    request = DataRequest(data=home / kind, cache=home / "cache" / name, window=window)
    prepared = prepare(request, image_size=SIZE, splits=["stratified"], searched="stratified")
    results = home / "results" / name
    write_prepared(prepared, results)
    source = prepared.source(results)
    state = Slot(device="cpu", threads=1).start(CONFIG, source.training_data("stratified"), keep_best=True)
    for _ in train(state):
        pass
    model = home / "results" / name / "best_stratified.pt"
    save(checkpoint_dict(state, class_names=source.class_names, which="best"), model)
    return Done(prepared, numbers(state.history), model)


def test_numbers_are_those_of_the_pngs_and_nothing_of_the_patient_is_left(
    home: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    plain, dicom = done(home, "png"), done(home, "dicom")
    assert np.array_equal(plain.prepared.cache.images, dicom.prepared.cache.images)
    assert plain.records == dicom.records and len(plain.records) == CONFIG.epochs  # one image a patient: the same splits

    broken = home / "more" / "broken.dcm"
    broken.parent.mkdir()
    broken.write_bytes((home / "dicom" / "u" / "00.dcm").read_bytes()[:-500])
    shutil.copy(home / "dicom" / "v" / "01.dcm", broken.parent / "IM0001")
    found = [str(home / "dicom" / "u"), str(broken.parent), "--overlays", str(home / "results" / "overlays")]
    assert main(["predict", str(dicom.model), *found, "--device", "cpu"]) == 2  # one file is cut off
    store = str(home / "results" / "store.db")
    assert main(["labels", "init", store, "--labels", "a,b"]) == 0
    assert main(["labels", "add", store, str(home / "dicom")]) == 0
    table = home / "results" / "labels.csv"
    table.write_text("path,label:a,label:b\n../dicom/u/00.dcm,1,0\n../dicom/v/01.dcm,0,1\n")
    assert main(["labels", "import", store, str(table)]) == 0
    assert main(["labels", "export", store, str(home)]) == 0

    said = capfd.readouterr()
    assert "broken.dcm" in said.out + said.err and "is cut off" in said.out + said.err
    texts = {"terminal": f"{said.out}{said.err}{caplog.text}".encode()}
    left = [home / "manifest.csv", *(path for folder in ("results", "cache") for path in (home / folder).rglob("*"))]
    texts |= {str(path): path.read_bytes() for path in left if path.is_file()} | {str(path): b"" for path in left}
    assert len(texts) > 20
    for place, text in texts.items():
        told = [mark for mark in MARKS if mark.encode() in text or mark in Path(place).name]
        assert not told, (place, told)


def test_a_window_travels_with_the_model(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = done(home, "dicom", WINDOW)
    info = open_model(made.model).info
    assert info.window == WINDOW and type(info).from_dict(info.to_dict()) == info and "128, 200" in info.preprocessing
    file, image_id = made.prepared.manifest.files[3], made.prepared.manifest.image_ids[3]
    cache = made.prepared.cache
    assert np.array_equal(open_model(made.model).decode(file), cache.images[cache.rows([image_id])[0]])
    capfd.readouterr()
    assert main(["prepare", "--data", str(home / "png"), "--cache", str(home / "cache" / "x"), "--window", "40,80"]) == 2
    assert "--window is for DICOM images" in capfd.readouterr().err
    assert main(["prepare", "--data", str(home / "dicom"), "--window", "40,0.5"]) == 2
    assert "a width of at least 1" in capfd.readouterr().err
