"""A folder of DICOM images through preparing, training, delivering and labelling: the numbers of the PNGs or JPEGs that they
were made from, and nothing of a marked patient in anything that is left, printed or sent.
"""

import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import constants
from PIL import Image

from tests.support.datasets import needs_shared
from tests.support.dicoms import MARKS, drawn, write_dicom
from tests.support.finished_search import CONFIG, SIZE
from tests.support.hub_server import TOKEN, hub_server
from tests.support.paths import SHARED
from tests.support.reports import StubSearch, make_settings
from tests.support.toy_training import numbers
from tune_btxrd.cli.main import main
from tune_btxrd.data.request import DataRequest
from tune_btxrd.distributed.listeners.mlflow import MlflowRuns
from tune_btxrd.distributed.listeners.tensorboard import EventFiles
from tune_btxrd.distributed.listeners.wandb import WandbRuns
from tune_btxrd.evaluation.explain import explain_search
from tune_btxrd.inference.export import export_search
from tune_btxrd.inference.hub import reach_repo
from tune_btxrd.inference.open_model import open_model
from tune_btxrd.pipeline.prepare import Prepared, prepare, write_prepared
from tune_btxrd.report.page import write_report
from tune_btxrd.results.search_json import DatasetFacts
from tune_btxrd.search.record import read_search
from tune_btxrd.training.checkpoint import checkpoint_dict, save
from tune_btxrd.training.loop import train
from tune_btxrd.training.slot import Slot

for package in ("pydicom", "mlflow", "wandb"):
    pytest.importorskip(package)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning"),  # MLflow's, Ray's and the hub's own
]
STAND_IN = SHARED / "xray_standin"

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


def done(home: Path, kind: str, window: tuple[float, float] | None = None, *, size: int = SIZE) -> Done:
    """Prepared and trained as a search trains, without Ray."""
    name = kind if window is None else f"{kind}_window"
    request = DataRequest(data=home / kind, cache=home / "cache" / name, window=window)
    prepared = prepare(request, image_size=size, splits=["stratified"], searched="stratified")
    results = home / "results" / name
    write_prepared(prepared, results)
    source, config = prepared.source(results), CONFIG.replace(image_size=size)
    state = Slot(device="cpu", threads=1).start(config, source.training_data("stratified"), keep_best=True)
    for _ in train(state):
        pass
    model = home / "results" / "checkpoints" / name / "best_stratified.pt"
    model.parent.mkdir(parents=True, exist_ok=True)
    save(checkpoint_dict(state, class_names=source.class_names, which="best"), model)
    return Done(prepared, numbers(state.history), model)


def test_numbers_are_those_of_the_pngs_and_nothing_of_the_patient_is_left(
    home: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
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

    delivered(home, dicom, monkeypatch)

    said = capfd.readouterr()
    assert "broken.dcm" in said.out + said.err and "is cut off" in said.out + said.err
    texts = {"terminal": f"{said.out}{said.err}{caplog.text}".encode()}
    left = [home / "manifest.csv", *(path for folder in ("results", "cache") for path in (home / folder).rglob("*"))]
    texts |= {str(path): path.read_bytes() for path in left if path.is_file()} | {str(path): b"" for path in left}
    kinds = {"report.html", "model.onnx", "MODEL_CARD.md", "README.md", "mlflow.db", "search.wandb", "explain/sheet.png"}
    assert len(texts) > 60 and not {kind for kind in kinds if not any(place.endswith(kind) for place in texts)}
    assert any("events.out" in place for place in texts)
    for place, text in texts.items():
        told = [mark for mark in MARKS if mark.encode() in text or mark in Path(place).name]
        assert not told, (place, told)


def delivered(home: Path, dicom: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is made of a search: report, exports, explanations, trackers, and a repository of the hub."""
    results, checkpoints = home / "results" / "dicom", home / "results" / "checkpoints" / "dicom"
    manifest, source = dicom.prepared.manifest, dicom.prepared.source(results)
    settings = make_settings(results, name="dicom", classes=manifest.class_names)
    facts = DatasetFacts(name=manifest.dataset, path=str(manifest.root), sha256=manifest.sha256, images=len(manifest))
    splits = {"stratified": "stratified"}
    settings = replace(settings, source=source, dataset=facts, checkpoints=checkpoints, searched="stratified", splits=splits)
    settings.save(results)
    StubSearch(results, settings).search(4, odd=False).confirm().write()
    exported = export_search(checkpoints, results=results, source=source)
    explain_search(checkpoints, results=results, manifest=manifest, source=source, device="cpu")
    write_report(results, checkpoints=checkpoints)
    record = read_search(results)
    EventFiles(record).close()
    monkeypatch.setenv("WANDB_MODE", "offline")
    spec = settings.spec(results)
    wandb, mlflow = WandbRuns("p", record, spec), MlflowRuns(f"sqlite:///{home / 'results' / 'mlflow.db'}", record, spec)
    wandb.close(finished=True)
    mlflow.close(finished=True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub_server() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        reach_repo("bone", public=False).push(exported)
    for name, content in hub.files["anna/bone"].items():
        path = home / "results" / "hub" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@needs_shared
def test_real_radiographs_as_dicom_are_the_jpegs_that_they_were_made_from(tmp_path: Path) -> None:
    """Some 40, grey and coloured, losslessly; twice the image size is more than their sides: no JPEG is read smaller."""
    table = pd.read_excel(STAND_IN / "dataset.xlsx").groupby(["tumor", "center"]).head(24)
    rows: dict[str, list[str]] = {"jpeg": ["image_id,path,label,center"], "dicom": ["image_id,path,label,center"]}
    for row in table.itertuples():
        with Image.open(STAND_IN / "images" / row.image_id) as picture:
            pixels = np.asarray(picture)
        if max(pixels.shape[:2]) > 2 * 128:
            continue
        stem = Path(row.image_id).stem
        for kind, name in (("jpeg", row.image_id), ("dicom", f"{stem}.dcm")):
            rows[kind].append(f"{stem},{name},{'ab'[row.tumor]},{row.center}")
        (tmp_path / "jpeg").mkdir(exist_ok=True)
        shutil.copy(STAND_IN / "images" / row.image_id, tmp_path / "jpeg")
        write_dicom(tmp_path / "dicom" / f"{stem}.dcm", pixels, patient=stem, study=f"1.9.{row.Index}")
    for kind, lines in rows.items():
        (tmp_path / kind / "manifest.csv").write_text("\n".join(lines) + "\n")
    jpeg, dicom = (done(tmp_path, kind, size=128) for kind in ("jpeg", "dicom"))
    assert len(jpeg.prepared.manifest) >= 40
    assert np.array_equal(jpeg.prepared.cache.images, dicom.prepared.cache.images)
    assert jpeg.records == dicom.records and len(jpeg.records) == CONFIG.epochs


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
