"""A stand-in of Hugging Face's hub on loopback, to which its real client talks: repositories, large files, commits."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import yaml

TOKEN = "hf_not-a-real-one"
OWNER = "anna"
LARGE = (".pt", ".onnx", ".safetensors")  # what the hub wants as large files


@dataclass
class HubStub:
    """What the stand-in holds: repository -> whether it is private, and its files."""

    address: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)  # SHA-256 -> content
    commits: list[str] = field(default_factory=list)  # messages
    asked: list[str] = field(default_factory=list)  # method and path of each request
    is_full: bool = False  # commits are refused

    def add(self, repo: str, *, private: bool, files: dict[str, bytes] | None = None) -> None:
        """A repository that is there already."""
        self.private[repo], self.files[repo] = private, dict(files or {})


@contextmanager
def hub_server() -> Iterator[HubStub]:
    """The stand-in while it answers."""
    stub = HubStub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stub": stub}))
    stub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    stub: HubStub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(200, {})

    def do_GET(self) -> None:
        self._handle(
            {r"/api/whoami-v2": self._whoami, r"/api/models/(.+?)/tree/main": self._tree, r"/api/models/(.+)": self._info}
        )

    def do_PUT(self) -> None:
        content = self._body()
        oid = hashlib.sha256(content).hexdigest()
        assert self.path == f"/large/{oid}", "what is sent has the hash that was announced"
        self.stub.large[oid] = content
        self._answer(200, {})

    def do_POST(self) -> None:
        self._handle(
            {
                r"/api/repos/create": self._create,
                r"/api/validate-yaml": self._validate,
                r"/api/models/(.+)/preupload/main": self._modes,
                r"/(.+)\.git/info/lfs/objects/batch": self._batch,
                r"/api/models/(.+)/commit/main": self._commit,
            }
        )

    def _handle(self, routes: dict[str, Any]) -> None:
        path, body = urlsplit(self.path).path, self._body()
        self.stub.asked.append(f"{self.command} {path}")
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
            return
        for pattern, answer in routes.items():
            if match := re.fullmatch(pattern, path):
                answer(*match.groups(), *([body] if self.command == "POST" else []))
                return
        self._answer(404, {"error": f"no such page: {self.path}"})

    def _whoami(self) -> None:
        self._answer(200, {"name": OWNER, "type": "user"})

    def _info(self, repo: str) -> None:
        if repo not in self.stub.private:
            self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        self._answer(200, {"id": repo, "private": self.stub.private[repo], "siblings": []})

    def _tree(self, repo: str) -> None:
        files = self.stub.files[repo].items()
        self._answer(200, [{"type": "file", "path": path, "size": len(content), "oid": "0" * 40} for path, content in files])

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.stub.private:
            self._answer(409, {"error": "You already created this model repo", "url": f"{self.stub.address}/{repo}"})
            return
        self.stub.add(repo, private=asked["visibility"] == "private")
        self._answer(200, {"url": f"{self.stub.address}/{repo}", "id": repo})

    def _validate(self, body: bytes) -> None:
        head = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
        self._answer(200, {"errors": [], "warnings": [] if head.get("license") else [{"message": "no licence"}]})

    def _modes(self, _: str, body: bytes) -> None:
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = [{"path": p, "uploadMode": "lfs" if p.endswith(LARGE) else "regular", "shouldIgnore": False} for p in paths]
        self._answer(200, {"files": modes})

    def _batch(self, _: str, body: bytes) -> None:
        objects = [
            {**item, "actions": {"upload": {"href": f"{self.stub.address}/large/{item['oid']}"}}}
            for item in json.loads(body)["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repo: str, body: bytes) -> None:
        if self.stub.is_full:
            self._answer(403, {"error": "Your storage is full"})
            return
        files = self.stub.files[repo]
        for line in map(json.loads, body.splitlines()):
            kind, value = line["key"], line["value"]
            if kind == "header":
                self.stub.commits.append(value["summary"])
            elif kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.stub.large[value["oid"]]
            else:
                assert kind == "deletedFile", kind
                del files[value["path"]]
        self._answer(200, {"commitUrl": f"{self.stub.address}/{repo}/commit/1", "commitOid": "1" * 40})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, code: int, document: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(document).encode()
        self.send_response(code)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""
