"""The fork server: copies that have torch, for functions and for Ray's workers; it ends with who started it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tune_btxrd.distributed import forks
from tune_btxrd.distributed.connect import connected
from tune_btxrd.distributed.forks import in_background, in_fork, server_name, warm
from tune_btxrd.distributed.launch_worker import ADDRESS, ask
from tune_btxrd.distributed.start_ray import FIRST_PORT, _free_port
from tune_btxrd.errors import ConfigError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every process imports torch anew")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(ADDRESS, raising=False)
        with warm():
            name = server_name()
            assert name
            yield name


def about_me() -> dict[str, object]:
    return {"pid": os.getpid(), "group": os.getpgid(0), "has_torch": "torch" in sys.modules, "nice": os.nice(0)}


def where_i_am() -> dict[str, object]:
    return {"folder": Path.cwd(), "said": os.environ.get("SAID"), "path": sys.path}


def refused(text: str) -> None:
    raise ConfigError(text)


def write_after(path: Path, gate: Path) -> None:
    while not gate.exists():
        time.sleep(0.01)
    path.write_text("written")


@pytest.mark.slow
def test_a_function_runs_in_a_copy_that_has_torch_and_what_it_raises_arrives(server: str) -> None:
    first, second = in_fork(about_me), in_fork(about_me)
    assert first["has_torch"]
    assert len({os.getpid(), first["pid"], second["pid"]}) == 3
    assert first["group"] == first["pid"]  # what ends its group ends it alone
    with pytest.raises(ConfigError) as caught:
        in_fork(refused, "too far")
    assert str(caught.value) == "too far"
    assert "in refused" in caught.value.__notes__[0]


@pytest.mark.slow
def test_a_copy_is_where_its_caller_is(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAID", "yes")
    monkeypatch.syspath_prepend(tmp_path)
    assert in_fork(where_i_am) == {"folder": tmp_path, "said": "yes", "path": sys.path}


@pytest.mark.slow
def test_a_process_that_comes_from_one_with_a_server_starts_none(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_RUNNING", [])
    monkeypatch.setenv(ADDRESS, server)
    with warm():
        assert not forks._RUNNING
        assert in_fork(about_me)["has_torch"]
    assert in_fork(about_me)["has_torch"]  # it did not end with the block


@pytest.mark.slow
def test_warm_waits_for_what_goes_on_in_the_background_and_raises_what_it_raised(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "_INSIDE", [None])
    gate, path = tmp_path / "gate", tmp_path / "file"
    in_background(write_after, path, gate)
    assert not path.exists()  # the caller went on
    gate.touch()
    forks.settle()
    assert path.read_text() == "written"
    in_background(refused, "too far")
    with pytest.raises(ConfigError, match="too far"):
        forks.settle()
    forks.settle()  # said once
    forks._INSIDE.clear()
    with pytest.raises(ConfigError, match="too far"):  # nobody would wait for it
        in_background(refused, "too far")


@pytest.mark.slow
def test_without_a_server_a_function_runs_in_a_process_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_RUNNING", [])
    monkeypatch.delenv(ADDRESS, raising=False)
    assert in_fork(about_me)["pid"] != os.getpid()
    with warm():
        forks._RUNNING[0]._process.kill()
        forks._RUNNING[0]._process.wait()
        assert in_fork(about_me)["pid"] != os.getpid()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.slow
def test_another_users_process_gets_no_answer(server: str) -> None:
    request = "import pickle, os; from tune_btxrd.distributed.launch_worker import ask\n"
    request += f"os.setuid(65534)\nprint(ask({server!r}, 'call', ([], pickle.dumps(os.getpid), ())))"
    done = subprocess.run([sys.executable, "-c", request], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "another user's" in done.stderr
    bare = f"import os, socket\nos.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0{server}')\n"
    done = subprocess.run([sys.executable, "-c", bare + "print(s.recv(1))"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "b''"


@pytest.mark.slow
def test_what_the_server_imports_asks_for_no_device() -> None:
    code = "import torch, importlib\ndef asked(*words): raise SystemExit('asked for a device')\n"
    code += "torch.cuda.is_available = torch.cuda.device_count = torch.cuda.init = asked\n"
    code += "from tune_btxrd.distributed.fork_server import IMPORTED\n"
    code += "for name in IMPORTED: importlib.import_module(name)\n"
    code += "assert not torch.cuda.is_initialized()"  # a copy could use none
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_nothing_in_the_folder_of_the_moment_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ADDRESS, raising=False)
    monkeypatch.setattr(forks, "_RUNNING", [])
    with warm():
        assert in_fork(about_me)["has_torch"]


def test_the_server_ends_with_a_killed_driver() -> None:
    code = "import time; from tune_btxrd.distributed import forks\nwith forks.warm():\n"
    code += "    print(forks._RUNNING[0]._process.pid, flush=True)\n    time.sleep(600)"
    alone = {name: value for name, value in os.environ.items() if name != ADDRESS}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=alone) as driver:
        assert driver.stdout is not None
        server = int(driver.stdout.readline())
        driver.kill()
    while Path(f"/proc/{server}").exists() and "Z" not in Path(f"/proc/{server}/stat").read_text().split(")")[1].split()[0]:
        time.sleep(0.05)  # the suite's own limit ends a test that waits for ever


@pytest.mark.slow
def test_rays_workers_are_copies_with_rays_environment_and_without_a_server_rays_own(server: str) -> None:
    with connected(address=None, name="forks") as cluster:
        import ray

        class Slot:
            def about(self) -> dict[str, object]:
                import numpy as np

                blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
                found = {"has_torch": "torch" in sys.modules, "said": os.environ.get("SAID"), "blocked": blocked}
                score = int(Path("/proc/self/oom_score_adj").read_text())
                found["arenas"] = os.environ.get("MALLOC_ARENA_MAX")
                return {**found, "drawn": float(np.random.random()), "group": os.getpgid(0) == os.getpid(), "score": score}

        def slots(count: int) -> list[dict[str, object]]:
            actor = ray.remote(num_cpus=0, runtime_env={"env_vars": {"SAID": "yes"}})(Slot)
            actors = [actor.remote() for _ in range(count)]
            return list(ray.get([each.about.remote() for each in actors]))

        first, second = slots(2)
        assert first["has_torch"]
        assert first["arenas"] == "1"
        assert first["drawn"] != second["drawn"]
        forks._RUNNING[0]._process.kill()
        forks._RUNNING[0]._process.wait()
        with pytest.raises(OSError):
            ask(server, "worker", [])
        (own,) = slots(1)
        assert not own["has_torch"]
        for name in ("said", "blocked", "group", "score", "arenas"):
            assert first[name] == own[name], name
        assert cluster.dashboard_url


def test_the_dashboards_port_is_one_that_nobody_has_or_is_about_to_have() -> None:
    port = _free_port()
    assert port is not None
    assert port >= FIRST_PORT
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        following = _free_port()
        assert following is not None
        assert following > port
    code = "from tune_btxrd.distributed.start_ray import _free_port\nprint(_free_port())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) != following
