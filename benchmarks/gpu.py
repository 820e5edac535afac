"""Everything that only a GPU can tell, in one sitting: correctness first, then speed, each part in a process of its own.

python -m benchmarks.gpu                                  (at most 25 minutes on one card; random weights, no network)
python -m benchmarks.gpu --parts precision captured       (some of it; `--minutes 8`: begin no part after so long)
python -m benchmarks.gpu --rehearse                       (the same code at tiny sizes on a CPU, one minute)

A part that fails, hangs or cannot be told here (why is said) leaves the others alone; the table is written after each. The
parts without a search need neither Ray nor Optuna.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.outcome import ROOT, circumstances, markdown, write_text

NAMES = (
    "precision",
    "captured",
    "resident",
    "memory",
    "epoch",
    "throughput",
    "compiled",
    "volume",
    "automatic",
    "search",
)
MARK = "gpu-part: "  # before the rows on a part's standard output


def run_part(name: str, *, rehearse: bool) -> int:
    """One part in this process; its rows, or why there are none, as the last line."""
    from benchmarks.gpu_parts import FULL, PARTS, TINY, SkippedError

    try:
        found: dict[str, Any] = {"rows": PARTS[name][0](TINY if rehearse else FULL)}
    except SkippedError as reason:
        found = {"skipped": str(reason)}
    except Exception as error:  # what a part raises is its result
        found = {"failed": f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]}
    print(MARK + json.dumps(found), flush=True)
    return 1 if "failed" in found else 0


def in_own_process(name: str, *, rehearse: bool, seconds: float) -> dict[str, Any]:
    """What `run_part` found, or why the process gave nothing."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, *(["--rehearse"] if rehearse else [])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process)
        return {"failed": f"not done after {seconds:g} s"}
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    return json.loads(lines[-1][len(MARK) :]) if lines else {"failed": f"ended with exit code {process.returncode}"}


def end(process: "subprocess.Popen[str]") -> None:
    """Ends a part's process and all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def sections(results: dict[str, dict[str, Any]]) -> str:
    """A heading and a table, or a line of why there is none, for each part."""
    texts = []
    for name, found in results.items():
        body = markdown(found["rows"]) if "rows" in found else " ".join(f"{word}: {why}" for word, why in found.items())
        texts.append(f"## {name}\n\n{body}\n")
    return "\n".join(texts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts and writes `results/gpu.md` and `.json` (a rehearsal: `gpu_rehearsal`); 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--part", choices=NAMES, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.part:
        return run_part(asked.part, rehearse=asked.rehearse)
    import torch

    from benchmarks.gpu_parts import PARTS

    if not asked.rehearse and not torch.cuda.is_available():
        print("A CUDA device must be here, but there is none: --rehearse runs the same code on a CPU.", file=sys.stderr)
        return 2
    found = {**circumstances(), "gpu": None if asked.rehearse else torch.cuda.get_device_name()}
    began, results = time.monotonic(), {}
    for name in asked.parts:
        left = 60 * asked.minutes - (time.monotonic() - began)
        limit = min(60 * PARTS[name][1], left)
        part = in_own_process(name, rehearse=asked.rehearse, seconds=limit) if left > 10 else {"skipped": "no time was left"}
        results[name] = part
        print(f"\n{sections({name: part})}", flush=True)
        write_text("gpu_rehearsal" if asked.rehearse else "gpu", sections(results), {**found, "parts": results})
    return 1 if any("failed" in part for part in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
