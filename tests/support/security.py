"""What bandit finds in the package, and why each finding may stay: `make audit` prints the rest, a test fails on it.

An exception holds for so many findings in a file: one more is looked at, and one that is gone is taken out of the list.
"""

import json
import subprocess
import sys
from collections import Counter

from tests.support.paths import ROOT

SQL = "interpolates our own constants and question marks; every value is bound"
GIT = "`git rev-parse HEAD` of the user's own PATH: fixed words, no shell"
DASHBOARD = "optuna-dashboard by this Python: fixed words, no shell"
SKIPPED = "B101"  # `assert` is for our own slips; no check of a user's input is one
SERVER = "this Python and a module of this package, as a list of words without a shell"
FORKS = "between processes of one user alone: both ends ask the kernel who is at the other one"
KEPT: dict[tuple[str, str], tuple[int, str]] = {  # (file, finding) -> how many, and why
    ("cli/watch.py", "B404"): (1, DASHBOARD),
    ("cli/watch.py", "B603"): (1, DASHBOARD),
    ("data/readers/label_store.py", "B608"): (1, SQL),
    ("distributed/fork_server.py", "B301"): (2, FORKS),
    ("distributed/fork_server.py", "B403"): (1, FORKS),
    ("distributed/forks.py", "B301"): (1, FORKS),
    ("distributed/forks.py", "B403"): (1, FORKS),
    ("distributed/forks.py", "B404"): (1, SERVER),
    ("distributed/forks.py", "B603"): (1, SERVER),
    ("distributed/launch_worker.py", "B403"): (1, FORKS),
    ("distributed/start_ray.py", "B108"): (1, "where Ray's sockets go if the temporary folder's path is too long for them"),
    ("labels/acts.py", "B608"): (2, SQL),
    ("labels/asking.py", "B311"): (1, "which image to ask for, no secret"),
    ("labels/asking.py", "B608"): (6, SQL),
    ("labels/insertion.py", "B608"): (1, SQL),
    ("labels/schema.py", "B608"): (3, SQL),
    ("labels/scores.py", "B608"): (7, SQL),
    ("labels/store.py", "B608"): (3, SQL),
    ("results/search_json.py", "B404"): (1, GIT),
    ("results/search_json.py", "B603"): (1, GIT),
    ("results/search_json.py", "B607"): (1, GIT),
    ("search/space/yaml_text.py", "B506"): (1, "its loader is a SafeLoader that also refuses a key given twice"),
    ("training/models/weights.py", "B310"): (1, "the hub's own address, asked with HEAD; what comes back is not read"),
}


def found() -> dict[tuple[str, str], list[str]]:
    """(file, finding) -> a line for each place, as bandit sees the package."""
    command = [sys.executable, "-m", "bandit", "--quiet", "--recursive", "tune_btxrd", "--skip", SKIPPED, "--format", "json"]
    answer = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout)
    assert not answer["errors"], answer["errors"]
    places: dict[tuple[str, str], list[str]] = {}
    for item in answer["results"]:
        file = item["filename"].removeprefix("tune_btxrd/")
        places.setdefault((file, item["test_id"]), []).append(
            f"tune_btxrd/{file}:{item['line_number']}: {item['test_id']} ({item['issue_severity']}) {item['issue_text']}"
        )
    return places


def unexplained() -> list[str]:
    """Findings without an exception, and exceptions without their findings; empty where all is well."""
    places = found()
    counts = Counter({key: len(lines) for key, lines in places.items()})
    known = {key: count for key, (count, _) in KEPT.items()}
    more = [line for key, lines in places.items() if counts[key] > known.get(key, 0) for line in lines]
    fewer = [
        f"tune_btxrd/{file}: {kind} was there {n} times and is there {counts[file, kind]} times: correct its exception"
        for (file, kind), n in known.items()
        if counts[file, kind] < n
    ]
    return more + fewer


if __name__ == "__main__":
    lines = unexplained()
    print("\n".join(lines) or f"bandit: nothing beyond the {sum(n for n, _ in KEPT.values())} places that have a reason")
    sys.exit(bool(lines))
