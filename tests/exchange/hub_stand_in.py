"""A hub on this machine: the part of the Hugging Face hub's HTTP API that a push and a fetch use.

Every file is taken inside the commit, as the hub takes small ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """The repositories, and the server that shows them.

    Attributes:
        repositories: name -> list of (commit, {path: content}), the newest last.
        private: names that answer 401 without a token.
        asked: the method and path of every request.
        broken: an HTTP status that every request is answered with; None: none.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.broken: int | None = None
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def put(self, name: str, files: dict[str, bytes]) -> str:
        """Add a commit and return it."""
        history = self.repositories.setdefault(name, [])
        digest = hashlib.sha1(f"{name}{len(history)}".encode()).hexdigest()
        history.append((digest, files))
        return digest

    def at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        history = self.repositories[name]
        if revision == "main":
            return history[-1] if history else ("0" * 40, {})
        return next((one for one in history if one[0] == revision), None)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        if self.hub.broken:
            return self._json({"error": "out of order"}, self.hub.broken)
        for pattern, answer in _ROUTES.items():
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                name = found.groupdict().get("name")
                if name is not None and not self._may(name):
                    return None
                return answer(self, body, **found.groupdict())
        return self._json({"error": f"no such call: {self.command} {path}"}, 404)

    def _may(self, name: str) -> bool:
        if name not in self.hub.repositories:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return False
        if name in self.hub.private and not self.headers.get("Authorization"):
            self._json({"error": "Invalid username or password."}, 401)
            return False
        return True

    def _json(self, tree: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._bytes(json.dumps(tree).encode(), status, headers)

    def _bytes(self, content: bytes, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _commit(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        found = self.hub.at(name, revision)
        if found is None:
            headers = {"X-Error-Code": "RevisionNotFound"}
            self._json({"error": "Revision not found"}, 404, headers)
        return found

    # --- the calls

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        owner = asked.get("organization") or "me"
        name = asked["name"] if "/" in asked["name"] else f"{owner}/{asked['name']}"
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(name)
        there = name in self.hub.repositories
        self.hub.repositories.setdefault(name, [])
        self._json({"url": f"{self.hub.url}/{name}", "name": name}, 409 if there else 200)

    def validate(self, body: bytes) -> None:
        header = json.loads(body)["content"].split("---")[1]
        errors = [] if "license:" in header else [{"message": "no license"}]
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        files = [
            {
                "path": one["path"],
                "uploadMode": "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for one in json.loads(body)["files"]
        ]
        self._json({"files": files})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        _, files = self.hub.at(name, "main") or ("", {})
        files = dict(files)
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "deletedFile":
                    files.pop(value["path"], None)
        made = self.hub.put(name, files)
        url = f"{self.hub.url}/{name}/commit/{made}"
        self._json({"commitUrl": url, "commitOid": made, "success": True})

    def model(self, body: bytes, name: str, revision: str | None = None) -> None:
        if (found := self._commit(name, revision or "main")) is not None:
            siblings = [{"rfilename": path} for path in found[1]]
            tree = {"id": name, "modelId": name, "sha": found[0], "siblings": siblings}
            self._json({**tree, "private": name in self.hub.private, "tags": [], "downloads": 0})

    def tree(self, body: bytes, name: str, revision: str) -> None:
        if (found := self._commit(name, revision)) is not None:
            self._json(
                [
                    {
                        "type": "file",
                        "path": path,
                        "size": len(content),
                        "oid": hashlib.sha1(content).hexdigest(),
                    }
                    for path, content in found[1].items()
                ]
            )

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        if (found := self._commit(name, revision)) is None:
            return
        commit, files = found
        if path not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            self._json({"error": "Entry not found"}, 404, headers)
            return
        content = files[path]
        etag = hashlib.sha1(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit}
        self._bytes(content, 200, headers)


_NAME, _REVISION = r"(?P<name>[\w.-]+/[\w.-]+)", r"(?P<revision>[\w.-]+)"
_ROUTES = {
    r"POST /api/repos/create": _Handler.create,
    r"POST /api/validate-yaml": _Handler.validate,
    rf"POST /api/models/{_NAME}/preupload/{_REVISION}": _Handler.preupload,
    rf"POST /api/models/{_NAME}/commit/{_REVISION}": _Handler.commit,
    rf"GET /api/models/{_NAME}": _Handler.model,
    rf"GET /api/models/{_NAME}/revision/{_REVISION}": _Handler.model,
    rf"GET /api/models/{_NAME}/tree/{_REVISION}(?:/)?": _Handler.tree,
    rf"(?:GET|HEAD) /{_NAME}/resolve/{_REVISION}/(?P<path>.+)": _Handler.resolve,
}
