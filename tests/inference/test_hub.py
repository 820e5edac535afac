"""Exports on Hugging Face's hub: its real client against a stand-in of the server. The hub itself is never asked."""

# ruff: noqa: F811  # pytest hands fixtures over by name
import dataclasses
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from tests.support.finished_search import Finished, finished  # noqa: F401  # a fixture
from tests.support.hub_server import TOKEN, HubStub, hub_server
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.inference.export import Exported, export_search
from tune_btxrd.inference.hub import hub_card, reach_repo
from tune_btxrd.inference.model_card import BTXRD_LICENCE, write_card
from tune_btxrd.pipeline.finished import export

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")  # of the hub's client about its own calls


@pytest.fixture(scope="module")
def exported(finished: Finished) -> list[Exported]:
    return export_search(finished.checkpoints, results=finished.results, source=finished.source)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    with hub_server() as stub:
        monkeypatch.setattr(constants, "ENDPOINT", stub.address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the hub's newer protocol has no stand-in
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield stub


def test_both_splits_and_their_cards_lie_in_a_private_repository(hub: HubStub, exported: list[Exported]) -> None:
    url = reach_repo("bone", public=False).push(exported)
    assert url == f"{hub.address}/anna/bone" and hub.private == {"anna/bone": True}
    files = dict(hub.files["anna/bone"])
    card = files.pop("README.md").decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "other" and head["library_name"] == "timm" and "not-for-clinical-use" in head["tags"]
    assert 'snapshot_download("anna/bone")' in card and card.count("> **Not for clinical use.**") == 2
    assert "split stratified)" in card and "split center)" in card
    wanted = {
        f"{item.split}/{path.relative_to(item.folder).as_posix()}": path.read_bytes()
        for item in exported
        for path in item.folder.rglob("*")
        if path.is_file()
    }
    assert files == wanted and {"stratified/timm/model.safetensors", "center/model.onnx"} <= set(files)
    assert hub.commits == [f"tune_btxrd export: {', '.join(item.split for item in exported)}"]


def test_a_second_push_replaces_the_splits_and_leaves_the_rest(hub: HubStub, exported: list[Exported]) -> None:
    split = exported[0].split
    before = {f"{split}/old.onnx": b"old", "notes.txt": b"mine", f"{split}2/x": b"other", "README.md": b"---\n---\n"}
    hub.add("team/bone", private=False, files=before)
    reach_repo("team/bone", public=True).push(exported[:1])
    files = hub.files["team/bone"]
    assert f"{split}/old.onnx" not in files and f"{split}/model.onnx" in files and len(hub.commits) == 1
    assert files["notes.txt"] == b"mine" and files[f"{split}2/x"] == b"other" and len(files["README.md"]) > 500


@pytest.mark.parametrize(
    ("repo", "public", "token", "told"),
    [
        ("a/b/c", False, TOKEN, "The hub must take a/b/c, but: "),
        ("bone", False, None, "a token of the hub, but none is at hand: `hf auth login`, or set HF_TOKEN"),
        ("bone", False, "hf_wrong", "The hub must take bone, but: "),
        ("team/open", False, TOKEN, "but team/open is public and should be private: add --public"),
        ("team/closed", True, TOKEN, "but team/closed is private and should be public: leave --public out"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_sent(
    repo: str, public: bool, token: str | None, told: str, hub: HubStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("team/open", private=False)
    hub.add("team/closed", private=True)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere/token")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ConfigError, match=r"^[^\n]+$") as caught:
        reach_repo(repo, public=public)
    assert told in str(caught.value) and (token or "hf_") not in str(caught.value)
    assert not [line for line in hub.asked if line.startswith("POST")]


def test_no_network_is_one_line(hub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and answers nothing
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConfigError, match=r"--push-to-hub needs the hub, but .* does not answer: is there a network"):
            reach_repo("bone", public=False)


def test_a_commit_that_is_refused_is_one_line(hub: HubStub, exported: list[Exported]) -> None:
    hub.is_full = True
    with pytest.raises(ResultError, match=r"^The hub must take anna/bone, but: [^\n]*403[^\n]*$"):
        reach_repo("bone", public=False).push(exported[:1])
    assert hub.files["anna/bone"] == {}


def test_the_licence_of_btxrd_stands_in_the_head(exported: list[Exported], finished: Finished, tmp_path: Path) -> None:
    results, folder = tmp_path / "results", tmp_path / exported[0].split / "export"
    shutil.copytree(finished.results, results)
    shutil.copytree(exported[0].folder, folder)
    settings = json.loads((results / "search.json").read_text())
    settings["dataset"]["name"] = "btxrd"
    (results / "search.json").write_text(json.dumps(settings))
    write_card(folder, results=results, split_folder=folder.parent)
    card = hub_card([dataclasses.replace(exported[0], folder=folder)], "anna/bone")
    head = yaml.safe_load(card.split("---\n")[1])
    assert (head["license_name"], head["license_link"]) == ("non-commercial-research", BTXRD_LICENCE)
    assert "**not for commercial use**" in card and "the weights are offered for non-commercial research only" in card


def test_public_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="--push-to-hub names none"):
        export("x", public=True)
