"""RemoteFolder: a folder in a storage beyond this machine (`s3://`, `gs://`, whatever pyarrow.fs knows).

Keys come from the environment of each node (AWS_ACCESS_KEY_ID, a role, GOOGLE_APPLICATION_CREDENTIALS), never from a URI:
what is typed ends in `search.json`, in logs and in the shell's history.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from tune_btxrd.errors import ConfigError, ResultError, first_line
from tune_btxrd.files import aside

SECRET_NAMES = re.compile(r"key|secret|token|password|credential", re.IGNORECASE)
SECRET_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def is_remote(storage: str) -> bool:
    """Whether this names a storage to be reached through pyarrow.fs rather than a folder."""
    return "://" in storage and not storage.startswith("file://")


def local_folder(storage: str) -> Path:
    """The folder that a plain path or a `file://` URI names."""
    return Path(urlsplit(storage).path if storage.startswith("file://") else storage)


def check_uri(uri: str) -> str:
    """The URI without a slash at its end. Raises: ConfigError for keys in it (they are not repeated) or an unknown kind."""
    parts = urlsplit(uri)
    if parts.username or parts.password or any(SECRET_NAMES.search(name) for name, _ in parse_qsl(parts.query)):
        raise ConfigError(
            f"A storage URI must not hold keys, but the one for {parts.scheme}://{parts.hostname} does: give them to every "
            "node by its environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role)."
        )
    if parts.scheme not in ("s3", "gs", "gcs", "abfs", "abfss"):
        raise ConfigError(f"A storage must be a folder, s3:// or gs://, but got {parts.scheme}://: change --storage.")
    if not parts.netloc:
        raise ConfigError(f"A storage URI must name a bucket, but got {uri}: write {parts.scheme}://BUCKET/FOLDER.")
    return uri.rstrip("/")


class RemoteFolder:
    """A folder in a storage, known by its URI; pickled as such, so that every node opens its own connection.

    Raises:
        ResultError: from every method, where the storage cannot be reached, read or written.
    """

    def __init__(self, uri: str) -> None:
        self.uri = check_uri(uri)

    def __reduce__(self) -> tuple[type["RemoteFolder"], tuple[str]]:
        return RemoteFolder, (self.uri,)

    def __truediv__(self, name: str) -> "RemoteFolder":
        """A folder in this one; a query (region, endpoint) stays where it was."""
        base, mark, query = self.uri.partition("?")
        name = name.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
        return RemoteFolder(f"{base.rstrip('/')}/{name}{mark}{query}")

    def put(self, file: Path, name: str) -> None:
        """Copies a local file there; it appears whole or not at all."""
        content = file.read_bytes()  # first: a stream that is closed early would leave a short file there
        with self._told(name), self._system.open_output_stream(f"{self._root}/{name}") as target:
            target.write(content)

    def get(self, name: str, file: Path) -> bool:
        """Copies a file from there, whole or not at all; False where there is none."""
        with self._told(name):
            if not self.has(name):
                return False
            with (
                self._system.open_input_stream(f"{self._root}/{name}") as source,
                aside(file) as part,
                part.open("wb") as target,
            ):
                shutil.copyfileobj(source, target, 1 << 20)
        return True

    def copy(self, name: str, other: str) -> None:
        """Copies a file within the storage, where there is one."""
        with self._told(name):
            if self.has(name):
                self._system.copy_file(f"{self._root}/{name}", f"{self._root}/{other}")

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with self._told(name):
            if self.has(name):
                self._system.delete_file(f"{self._root}/{name}")

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        with self._told(name):
            return bool(self._system.get_file_info(f"{self._root}/{name}").is_file)

    def names(self) -> dict[str, int]:
        """Every file below this folder, by its path from here, with its size in bytes."""
        from pyarrow.fs import FileSelector

        with self._told(""):
            found = self._system.get_file_info(FileSelector(self._root, recursive=True, allow_not_found=True))
        return {info.path.removeprefix(f"{self._root}/"): info.size for info in found if info.is_file}

    @property
    def _system(self) -> Any:
        return self._place[0]

    @property
    def _root(self) -> str:
        return str(self._place[1]).rstrip("/")

    @cached_property
    def _place(self) -> tuple[Any, str]:
        from pyarrow.fs import FileSystem

        place, mark, query = self.uri.partition("?")
        system, root = FileSystem.from_uri(f"{quote(place, safe='/:%@')}{mark}{query}")  # which reads ASCII alone
        return system, root

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """An error of the storage as one line without keys."""
        try:
            yield
        except (OSError, ValueError, NotImplementedError) as error:
            reason = scrubbed(first_line(error, 200))
            place = f"{self.uri.partition('?')[0]}/{name}".rstrip("/")
            raise ResultError(
                f"The storage must be reachable and writable, but {place}: {reason}. Mend it, then --resume."
            ) from error


def scrubbed(text: str) -> str:
    """The text without the keys that this process's environment holds."""
    for variable in SECRET_VARIABLES:
        if value := os.environ.get(variable):
            text = text.replace(value, f"<{variable}>")
    return text
