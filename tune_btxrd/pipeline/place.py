"""Place: where a search lies, by its name; and the command to type for it, complete and quoted."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tune_btxrd.distributed.remote_storage import RemoteFolder, check_uri, is_remote, local_folder
from tune_btxrd.distributed.sync import fetch
from tune_btxrd.errors import ResultError, flag_words, shell_command
from tune_btxrd.files import require_writable
from tune_btxrd.results.search_json import SearchSettings, results_folder
from tune_btxrd.search.journal import FILE as JOURNAL
from tune_btxrd.search.record import SETTINGS_FILE

STORAGE, CHECKPOINTS = "ray_results", "checkpoints"
NAMED = ("run", "search", "train")  # verbs that take --name and --resume; all others take NAME


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a search lies.

    Attributes:
        storage: folder of results, or a URI (s3://, gs://); a search in the latter works in STORAGE and is copied there.
        checkpoints: root of checkpoints; None: CHECKPOINTS, or where `search.json` says.
    """

    name: str
    storage: str = STORAGE
    checkpoints: Path | None = None

    def __post_init__(self) -> None:
        if is_remote(self.storage):
            check_uri(self.storage)
        root = self.checkpoints
        if root is not None and root.exists() and not root.is_dir():
            raise ResultError(f"Checkpoints lie in a folder, but {root} is a file: choose another --checkpoints.")

    @property
    def folder(self) -> Path:
        """`ray_results/<name>` on this machine, absolute."""
        storage = Path(STORAGE) if is_remote(self.storage) else local_folder(self.storage)
        return results_folder(storage, self.name).resolve()

    @property
    def copy(self) -> RemoteFolder | None:
        """The storage's copy of the results folder, if there is one."""
        return RemoteFolder(check_uri(self.storage)) / self.name if is_remote(self.storage) else None

    @property
    def exists(self) -> bool:
        """Whether a search of this name has begun, here or in the storage."""
        return (self.folder / SETTINGS_FILE).is_file() or (self.copy is not None and self.copy.has(SETTINGS_FILE))

    def settings(self) -> SearchSettings:
        """The search that lies here, brought from the storage where need be. Raises: ResultError."""
        if is_remote(self.storage):
            bring(self.storage, self.folder)
        return SearchSettings.load(self.folder).moved(self.checkpoints)

    def require_writable(self, checkpoints: Path | None = None) -> None:
        """Tries both folders before anything long is done.

        Args:
            checkpoints: of the search, where it is known.

        Raises:
            UnwritableError: in one line, with the flag to change.
        """
        require_writable(self.folder, "choose another --storage")
        require_writable(checkpoints or (self.checkpoints or Path(CHECKPOINTS)) / self.name, "choose other --checkpoints")

    def command(self, verb: str, *words: str) -> str:
        """What to type for this search; `words`: further ones. Where the verb can go on, it does."""
        name = ["--name", self.name, "--resume"] if verb in NAMED else [self.name]
        where = [] if self.storage == STORAGE else flag_words("--storage", self.storage)
        if self.checkpoints is not None and verb not in ("watch", "trial"):
            where += flag_words("--checkpoints", str(self.checkpoints))
        return shell_command(["python", "-m", "tune_btxrd", verb, *name, *where, *words])


def bring(storage: str, folder: Path) -> None:
    """The results folder here as the storage has it, where it is not here yet, or went on elsewhere since.

    Raises:
        ResultError: two machines went on with the same search, each in its own way.
    """
    copy = RemoteFolder(storage) / folder.name
    fetch(copy, folder)
    journal = folder / JOURNAL
    if not journal.is_file() or not copy.has(JOURNAL):
        return
    with TemporaryDirectory() as aside:
        theirs = Path(aside) / JOURNAL
        copy.get(JOURNAL, theirs)
        here, there = journal.read_bytes(), theirs.read_bytes()
    if not here.startswith(there[: there.rfind(b"\n") + 1]) and not there.startswith(here[: here.rfind(b"\n") + 1]):
        raise ResultError(
            f"A search has one journal, but {journal} and the one in {copy.uri.partition('?')[0]} went on differently: "
            "move one of them away."
        )
    if len(there) > len(here):
        copy.get(JOURNAL, journal)
