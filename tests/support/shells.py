"""A printed command as a real shell takes it."""

import os
import subprocess


def typed_in_bash(command: str) -> list[str]:
    """The words that bash makes of a line."""
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"],
        check=True,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    return [os.fsdecode(word) for word in shown.stdout.split(b"\0")[:-1]]
