"""What docs and `deploy/` tell users to type is understood by our own command line, and manifests hold what they must."""

import re
import shlex
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT
from tune_btxrd.cli.parser import build_parser
from tune_btxrd.distributed.remote_storage import check_uri, is_remote

SCRIPT = (ROOT / "deploy" / "two_machines.sh").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    manifest = yaml.safe_load((ROOT / "deploy" / "rayjob.yaml").read_text(encoding="utf-8"))
    assert isinstance(manifest, dict)
    return manifest


def parsed(command: str) -> Any:
    """Flags of `python -m tune_btxrd ...`; argparse exits where it does not know one."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "tune_btxrd"]
    return build_parser().parse_args(words[3:])


def test_the_manifests_command_is_ours(job: dict[str, Any]) -> None:
    flags = parsed(job["spec"]["entrypoint"])
    assert flags.verb == "run" and flags.address == "auto" and flags.data.is_absolute() and flags.name
    assert is_remote(flags.storage) and check_uri(flags.storage)


def test_the_manifest_has_what_kuberay_and_we_need(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob") and job["metadata"]["name"]
    cluster = job["spec"]["rayClusterSpec"]
    assert f"ray[default,tune]=={cluster['rayVersion']} " in (ROOT / "requirements.txt").read_text()
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    flags = parsed(job["spec"]["entrypoint"])
    for group in (head, workers):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] in (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
        assert container["envFrom"][0]["secretRef"]["name"] == "storage-keys"
        assert container["resources"]["requests"] == container["resources"]["limits"]
    size = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert size["nvidia.com/gpu"] >= float(flags.gpus_per_trial) and float(size["cpu"]) >= flags.cpus_per_trial
    assert flags.slots == workers["maxReplicas"] * size["nvidia.com/gpu"]
    assert workers["template"]["spec"]["terminationGracePeriodSeconds"] > 10  # what SIGTERM takes
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "20"


def test_the_recipes_commands_are_ours() -> None:
    commands = re.findall(r"^python -m tune_btxrd .*$", SCRIPT, flags=re.MULTILINE)
    assert [parsed(command).verb for command in commands] == ["run", "submit"]
    assert all(parsed(command).storage.startswith("/shared/") for command in commands)


def test_the_recipe_starts_ray_twice_on_one_port_with_login() -> None:
    head, worker = re.findall(r"^ray start .*$", SCRIPT, flags=re.MULTILINE)
    assert "--head --port 6379" in head and "--address HEAD:6379" in worker and "0.0.0.0" not in SCRIPT
    assert SCRIPT.count("export RAY_AUTH_MODE=token") == 2
