"""Hugging Face's hub: exported folders and their model cards in one repository there, private unless asked otherwise.

<repo>/README.md     what the hub shows: the model card of each split, with its YAML head
<repo>/<split>/...   the export folder of each split, as it is; <split>_soup/ and <split>_ensemble/ of its averages

Address and token are the hub client's own (`HF_ENDPOINT`, `HF_TOKEN`, `hf auth login`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError  # type: ignore[attr-defined]  # its base
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # documented, but not declared

from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.inference.export import Exported
from tune_btxrd.inference.model_card import CARD_FILE
from tune_btxrd.training.models.weights import hub_answers

README = "README.md"
HEAD = "---\n"  # before and after a card's YAML


@dataclass(frozen=True, kw_only=True)
class HubRepo:
    """A repository that may be written.

    Attributes:
        id: with its owner, "anna/bone-tumours"; public: whether everybody may read it.
    """

    id: str
    public: bool

    def push(self, exported: Sequence[Exported]) -> str:
        """Sends what was exported in one commit, makes the repository where there is none, and returns its address.

        Files of these splits that an earlier push left there and that are no more are removed.

        Raises:
            ResultError: the hub does not take them; nothing of the commit is there then.
        """
        api = HfApi()
        disable_progress_bars()
        files = {path: file for item in exported for path, file in _files(item)}
        adds = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in files.items()]
        card = CommitOperationAdd(path_in_repo=README, path_or_fileobj=hub_card(exported, self.id).encode())
        with _answers(self.id, ResultError):
            url = api.create_repo(self.id, private=not self.public, exist_ok=True)
            tops = tuple(f"{item.stem}/" for item in exported)
            gone = [path for path in api.list_repo_files(self.id) if path.startswith(tops) and path not in files]
            deletes = [CommitOperationDelete(path_in_repo=path) for path in gone]
            splits = ", ".join(item.split for item in exported)
            api.create_commit(self.id, [card, *adds, *deletes], commit_message=f"tune_btxrd export: {splits}")
        return str(url)


def reach_repo(repo: str, *, public: bool) -> HubRepo:
    """The repository, once it is sure that this user may try: asked before anything is exported.

    Raises:
        ConfigError: no token or a wrong one, no network, a name that the hub does not take, or a repository that is there
            and is public where it should be private, or the reverse.
    """
    if get_token() is None:
        raise ConfigError("--push-to-hub needs a token of the hub, but none is at hand: `hf auth login`, or set HF_TOKEN.")
    if not hub_answers():
        raise ConfigError(f"--push-to-hub needs the hub, but {constants.ENDPOINT} does not answer: is there a network?")
    api = HfApi()
    with _answers(repo, ConfigError):
        owner = str(api.whoami()["name"])
        full = repo if "/" in repo else f"{owner}/{repo}"
        try:
            is_private = bool(api.model_info(full).private)
        except RepositoryNotFoundError:
            is_private = not public  # as it will be made
    if is_private == public:
        there, asked = ("private", "public") if public else ("public", "private")
        cure = "leave --public out" if public else "add --public"
        raise ConfigError(
            f"A repository stays as private as it is, but {full} is {there} and should be {asked}: {cure}, change it on the "
            "hub, or name another one."
        )
    return HubRepo(id=full, public=public)


def hub_card(exported: Sequence[Exported], repo: str) -> str:
    """README.md of the repository: the YAML head of the first card, how to get the files, and each split's card."""
    cards = [(item.folder / CARD_FILE).read_text(encoding="utf-8") for item in exported]
    head = cards[0].split(HEAD)[1]
    bodies = [card.split(HEAD, 2)[2].strip() for card in cards]
    folders = ", ".join(f"`{item.stem}/`" for item in exported)
    how = (
        f"Files lie in {folders}, a folder per split. To have them here:\n\n```python\nimport huggingface_hub\n"
        f'folder = huggingface_hub.snapshot_download("{repo}")\n```'
    )
    return f"{HEAD}{head}{HEAD}\n{how}\n\n" + "\n\n".join(bodies) + "\n"


def _files(exported: Exported) -> Iterator[tuple[str, Path]]:
    """(path in the repository, file) of one export."""
    for file in sorted(path for path in exported.folder.rglob("*") if path.is_file()):
        yield f"{exported.stem}/{file.relative_to(exported.folder).as_posix()}", file


@contextmanager
def _answers(repo: str, kind: type[ConfigError] | type[ResultError]) -> Iterator[None]:
    """What the hub refuses, and what its network layers raise, as one line."""
    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        cause = error.__cause__ or error  # of a file that could not be sent
        said = " ".join(str(cause).split())[:200] or type(cause).__name__
        raise kind(f"The hub must take {repo}, but: {said}") from error
