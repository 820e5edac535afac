"""What leaves the project of a model of volumes: plain MONAI, ONNX, predictions of patients, maps in their own space."""

import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from tests.support.finished_volumes import AFFINE, CHANNELS, COUNT, SHAPE, FinishedVolumes, build
from tests.support.paths import ROOT
from tune_btxrd.cli.main import main
from tune_btxrd.data.cache.decode import UnreadableError
from tune_btxrd.data.cache.volumes import cube_affine
from tune_btxrd.errors import DataError
from tune_btxrd.evaluation.explain import explain_search
from tune_btxrd.inference.checkpoint_formats import blank_input
from tune_btxrd.inference.export import export_search
from tune_btxrd.inference.grad_cam import explain_files, feature_layer
from tune_btxrd.inference.open_model import open_checkpoint, open_model
from tune_btxrd.inference.patients import find_patients
from tune_btxrd.inference.predict import predict_images
from tune_btxrd.inference.volume_maps import lesion_in_cube, three_planes, write_nifti


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> FinishedVolumes:
    return build(tmp_path_factory.getbasetemp() / "finished_volumes")


def test_three_lines_load_a_checkpoint_into_plain_monai(heads):
    import monai

    predictor = open_checkpoint(heads.checkpoint)
    volumes = heads.source.training_data("stratified").images[:3]

    checkpoint = torch.load(heads.checkpoint, weights_only=True)
    (block,) = re.findall(r"```python\n(net = .*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(block.strip().splitlines()) == 3
    names = {"checkpoint": checkpoint, "monai": monai}
    exec(block, names)
    model = names["model"]

    assert checkpoint["channels"] == list(CHANNELS) and checkpoint["config"]["stem_stride"] == 2
    norm = checkpoint["normalization"]
    mean, std = (torch.tensor(norm[key]).view(2, 1, 1, 1) for key in ("mean", "std"))
    levels = torch.from_numpy(np.array(volumes))
    pixels = levels.masked_fill(levels == 0, 128).movedim(-1, 1) / 255
    with torch.no_grad():
        plain = model.eval()((pixels - mean) / std).numpy()
    np.testing.assert_allclose(plain, predictor.logits(volumes), atol=2e-4)


def test_onnx_gives_the_same_logits_and_says_its_preprocessing(heads):
    (exported,) = export_search(heads.checkpoints, results=heads.results, source=heads.source)
    assert set(exported.differences) == {"onnx"} and not (exported.folder / "timm").exists()
    volumes = heads.source.training_data("stratified").images[:5]
    graph = open_model(exported.folder)
    np.testing.assert_allclose(graph.logits(volumes), open_checkpoint(heads.checkpoint).logits(volumes), atol=1e-3)
    told = json.loads((exported.folder / "tune_btxrd.json").read_text())
    assert told["channels"] == ["flair", "t1ce"] and "turn the axes to R, A, S" in told["preprocessing"]
    card = (exported.folder / "MODEL_CARD.md").read_text()
    assert told["preprocessing"] in card and "timm.create_model" not in card and "monai.networks.nets.resnet10(" in card
    assert "volumes drawn by tune_btxrd itself in BraTS's layout" in card and "Patients are rebuilt" not in card


def test_patients_are_predicted_however_they_are_named(heads, tmp_path: Path):
    wanted = open_checkpoint(heads.checkpoint).logits(heads.source.training_data("stratified").images)
    case = heads.case(0)
    files = [case / f"{case.name}_{channel}.nii.gz" for channel in CHANNELS]
    table = tmp_path / "manifest.csv"
    table.write_text(f"image_id,path:t1ce,path:flair\np1,{files[1]},{files[0]}\n")
    for named in (case, table, ",".join(map(str, files))):
        found = predict_images(heads.checkpoint, [str(named)], device="cpu")
        np.testing.assert_allclose(found.logits, wanted[:1], atol=1e-4)
    found = predict_images(heads.checkpoint, [heads.data], device="cpu")
    assert len(found.files) == COUNT and not found.broken
    np.testing.assert_allclose(found.logits, wanted, atol=1e-4)


def test_a_patient_without_a_channel_is_told_and_the_rest_goes_on(heads, tmp_path: Path, capsys):
    for index in (0, 1):
        shutil.copytree(heads.case(index), tmp_path / heads.case(index).name)
    (tmp_path / "CASE01" / "CASE01_t1ce.nii.gz").unlink()
    assert main(["predict", str(heads.checkpoint), str(tmp_path), "--format", "csv", "--device", "cpu"]) == 2
    shown = capsys.readouterr()
    assert "CASE00" in shown.out and "CASE01" not in shown.out and "has no t1ce" in shown.err


def test_mistakes_are_one_line(heads, tmp_path: Path):
    with pytest.raises(DataError, match=r"needs flair, t1ce of each patient, but got the single file"):
        find_patients([heads.manifest.files[0]], CHANNELS)
    with pytest.raises(DataError, match="must be one patient's flair, t1ce, but got 3"):
        find_patients([Path("a.nii,b.nii,c.nii")], CHANNELS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no flair, t1ce"):
        find_patients([tmp_path / "empty"], CHANNELS)
    (tmp_path / "manifest.csv").write_text("image_id,path:flair\na,b.nii\n")
    with pytest.raises(DataError, match="has no path:t1ce: add it"):
        find_patients([tmp_path], CHANNELS)


def test_heat_is_on_the_patients_own_voxels(heads, tmp_path: Path):
    files = heads.manifest.volumes[1]
    lesion = lesion_in_cube(heads.manifest.masks[1], files, 32, channels=CHANNELS, spacing=None)
    write_nifti(lesion.astype(np.float32), tmp_path / "back.nii.gz", files, channels=CHANNELS, spacing=None)
    back, stored = nibabel.load(tmp_path / "back.nii.gz"), nibabel.load(heads.manifest.masks[1])
    assert back.shape == SHAPE and np.array_equal(back.affine, stored.affine)
    one, other = np.asarray(back.dataobj) > 0.5, np.asarray(stored.dataobj) > 0
    assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.85  # Dice


@pytest.mark.parametrize("spacing", [None, 2.5])
def test_the_cubes_affine_says_where_its_voxels_lie(heads, spacing):
    files = heads.manifest.volumes[1]
    affine = cube_affine(files, 32, channels=CHANNELS, spacing=spacing)
    lesion = lesion_in_cube(heads.manifest.masks[1], files, 32, channels=CHANNELS, spacing=spacing)
    middle = np.argwhere(lesion).mean(axis=0)
    stored = np.argwhere(np.asarray(nibabel.load(heads.manifest.masks[1]).dataobj) > 0).mean(axis=0)
    np.testing.assert_allclose(
        nibabel.affines.apply_affine(affine, middle), nibabel.affines.apply_affine(AFFINE, stored), atol=1.5
    )


@pytest.mark.parametrize(
    ("turn", "cut", "found"),
    [
        (AFFINE, 2, "26 x 22 x 30 voxels instead of 28 x 22 x 30"),
        (np.diag([1.5, 1.2, 2.0, 1.0]), 0, "28 x 30 x 22 voxels instead of 28 x 22 x 30"),
        (AFFINE + np.outer([0, 0, 1, 0], [0, 0, 0, 12.0]), 0, "the same shape at another place"),
    ],
    ids=["another shape", "an affine that was lost", "another place"],
)
def test_a_mask_on_another_grid_than_its_patient_is_one_line(heads, tmp_path: Path, turn, cut: int, found: str):
    """It would mark another part of the head, or nothing."""
    drawn = np.asarray(nibabel.load(heads.manifest.masks[1]).dataobj)[: SHAPE[0] - cut]
    nibabel.save(nibabel.Nifti1Image(drawn, turn), tmp_path / "CASE01_seg.nii.gz")
    with pytest.raises(UnreadableError, match="its grid is not that of the patient's volumes") as refusal:
        lesion_in_cube(tmp_path / "CASE01_seg.nii.gz", heads.manifest.volumes[1], 32, channels=CHANNELS, spacing=None)
    assert found in refusal.value.reason, refusal.value.reason


def test_explain_writes_sheet_maps_and_the_share_of_heat_inside(heads):
    (found,) = explain_search(
        heads.checkpoints, results=heads.results, manifest=heads.manifest, source=heads.source, device="cpu"
    )
    folder = heads.checkpoints / "stratified" / "explain"
    ids = heads.source.training_data("stratified").val_rows
    maps = sorted(folder.glob("maps/*.nii.gz"))
    assert found.sheet.is_file() and len(maps) == len(ids)
    heat, stored = nibabel.load(maps[0]), nibabel.load(heads.manifest.files[0])
    assert heat.shape == SHAPE and np.array_equal(heat.affine, stored.affine) and np.asarray(heat.dataobj).max() > 0.5
    assert found.pointing is not None and 0 <= found.pointing.energy <= 1
    annotated = sum(heads.manifest.masks[row] is not None for row in ids)
    assert found.pointing.hits.asked == annotated and 0 < found.pointing.chance < 0.2


def test_overlays_of_predicted_patients(heads, tmp_path: Path):
    predictor = open_checkpoint(heads.checkpoint)
    parts = find_patients([heads.case(1)], CHANNELS)
    (picture,) = explain_files(predictor, list(parts), tmp_path, parts=parts)
    assert picture.is_file() and nibabel.load(picture.with_suffix(".nii.gz")).shape == SHAPE


def test_planes_through_a_voxel():
    cube = np.arange(27).reshape(3, 3, 3)
    planes = three_planes(cube, (0, 1, 2))
    assert planes.shape == (3, 9)
    assert planes[0, 0] == cube[0, 0, 2] and planes[2, 5] == cube[2, 1, 0] and planes[0, 8] == cube[2, 2, 2]


def test_the_explained_layer_has_more_than_one_cell(heads):
    predictor = open_checkpoint(heads.checkpoint)
    info, seen = predictor.info, []
    layer = feature_layer(predictor.model, info.image_size, backbone=info.backbone, channels=info.channels)
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    predictor.model(blank_input(info))
    hook.remove()
    assert min(seen[0][2:]) >= 4
