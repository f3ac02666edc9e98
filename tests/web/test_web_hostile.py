"""Requests that nobody should send: each is refused, with the status that it deserves."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serving import BEARER, TOKEN
from starlette.responses import Response

from undiffuse.web.app import LOOPBACK
from undiffuse.web.safety import Guard

HOST = "127.0.0.1:8000"
COOKIE = {"cookie": f"undiffuse-8000={TOKEN}"}
EVIL = {"origin": "http://evil.example"}
RUNS, SAMPLE = "/api/v1/runs", "/api/v1/runs/rows/sample"
NEW = {"name": "new", "source": {"builtin": "moons"}, "steps": 1}


def new(**changes: Any) -> dict[str, Any]:
    """A request for a new run, but for what is changed."""
    return {"json": {**NEW, **changes}}


def options(**given: Any) -> dict[str, Any]:
    return new(options=given)


def drawn(**asked: Any) -> dict[str, Any]:
    return {"json": asked}


def raw(text: str | bytes, kind: str = "application/json") -> dict[str, Any]:
    return {"content": text, "headers": {**BEARER, "content-type": kind}}


def sent(name: str, content: bytes = b"a,b\n1,2\n") -> dict[str, Any]:
    """An upload whose file has just this name: clients would make it harmless."""
    body = b'--x\r\nContent-Disposition: form-data; name=files; filename="'
    body += name.encode() + b'"\r\n\r\n' + content + b"\r\n--x--\r\n"
    return raw(body, "multipart/form-data; boundary=x")


def bomb() -> bytes:
    file = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(file, "PNG")
    return file.getvalue()


def frames() -> bytes:
    """A small file of many frames."""
    file = io.BytesIO()
    shown = [Image.new("L", (800, 800), n % 256) for n in range(110)]
    shown[0].save(file, "GIF", save_all=True, append_images=shown[1:])
    return file.getvalue()


def eps() -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n%%EOF\n"


HEAD = {"headers": {}}
STRANGERS = [
    ("GET", RUNS, HEAD, 401),
    ("GET", RUNS, {"headers": {"authorization": "Bearer wrong"}}, 401),
    ("GET", RUNS, {"headers": {"authorization": "Bearer"}}, 401),
    ("GET", RUNS, {"headers": {"authorization": f"Basic {TOKEN}"}}, 401),
    ("GET", RUNS, {"headers": {"authorization": f"Bearer {TOKEN}x"}}, 401),
    ("GET", RUNS, {"headers": {"authorization": b"Bearer \xff\xfe"}}, 401),
    ("GET", RUNS, {"headers": {"cookie": "undiffuse-8000=wrong"}}, 401),
    ("GET", RUNS, {"headers": {"cookie": f"undiffuse-9999={TOKEN}"}}, 401),
    ("GET", RUNS, {"headers": {"cookie": f"{TOKEN}"}}, 401),
    ("GET", f"{RUNS}?token={TOKEN}", HEAD, 401),
    ("GET", "/?token=wrong", HEAD, 401),
    ("GET", f"/?token={TOKEN}&token={TOKEN}", HEAD, 401),
    ("GET", "/", HEAD, 401),
    ("GET", "/static/index.html", HEAD, 401),
    ("GET", "/api/openapi.json", HEAD, 401),
    ("POST", SAMPLE, {"headers": {**COOKIE}, "json": {"n": 1}}, 403),
    ("POST", SAMPLE, {"headers": {**COOKIE, **EVIL}, "json": {"n": 1}}, 403),
    ("DELETE", f"{RUNS}/rows", {"headers": {**COOKIE, "origin": "null"}}, 403),
    ("DELETE", f"{RUNS}/rows", {"headers": {**COOKIE, "origin": "http://127.0.0.1:9"}}, 403),
    ("DELETE", f"{RUNS}/rows", {"headers": {**COOKIE, "origin": f"file://{HOST}"}}, 403),
    ("GET", RUNS, {"headers": {**BEARER, **EVIL}}, 403),
    (
        "POST",
        SAMPLE,
        {"headers": {**BEARER, "sec-fetch-site": "cross-site"}, "json": {"n": 1}},
        403,
    ),
    ("GET", RUNS, {"headers": {**BEARER, "host": "evil.example"}}, 403),
    ("GET", RUNS, {"headers": {**BEARER, "host": "127.0.0.1.evil.example:8000"}}, 403),
    ("GET", RUNS, {"headers": {**BEARER, "host": "127.0.0.1@evil.example"}}, 403),
    ("GET", RUNS, {"headers": {**BEARER, "host": ""}}, 403),
    ("GET", RUNS, {"headers": [*BEARER.items(), ("host", HOST), ("host", "evil.example")]}, 403),
    ("GET", f"/?token={TOKEN}", {"headers": {"host": "evil.example"}}, 403),
]
PLACES = [
    ("GET", f"{RUNS}/..%2f..%2fetc", {}, 404),
    ("GET", f"{RUNS}/%2e%2e", {}, 404),
    ("GET", f"{RUNS}/.undiffuse", {}, 404),
    ("GET", f"{RUNS}/%2fetc", {}, 404),
    ("GET", f"{RUNS}/rows%00", {}, 404),
    ("GET", f"{RUNS}/{'x' * 400}", {}, 422),
    ("GET", f"{RUNS}/linked", {}, 404),
    ("DELETE", f"{RUNS}/linked", {}, 404),
    ("GET", f"{RUNS}/hostile/samples/7.png", {}, 404),
    ("GET", f"{RUNS}/rows/samples/..%2f..%2fconfig.json", {}, 404),
    ("GET", f"{RUNS}/rows/samples/-1.png", {}, 422),
    ("GET", f"{RUNS}/rows/config.json", {}, 404),
    ("GET", "/runs/hostile/report", {}, 404),
    ("GET", "/runs/..%2fdata/report", {}, 404),
    ("GET", "/static/../app.py", {}, 404),
    ("GET", "/static/%2e%2e/app.py", {}, 404),
    ("GET", "/static/..%5capp.py", {}, 404),
    ("GET", "/static//etc/passwd", {}, 404),
    ("GET", "/static/", {}, 404),
    ("GET", "/api/v1/jobs/..%2f..", {}, 404),
    ("GET", "/api/v1/jobs/unknown", {}, 404),
    ("GET", "/api/v1/jobs/unknown/result", {}, 404),
    ("GET", "/comparisons/unknown", {}, 404),
    ("GET", "/api/v1/uploads/..%2f..", {}, 404),
    ("GET", "/api/v1/sources/info?folder=data/../../etc", {}, 404),
    ("GET", "/api/v1/sources/info?folder=data/way-out/passwd", {}, 404),
    ("GET", "/api/v1/sources/info?folder=/etc", {}, 404),
    ("GET", "/api/v1/sources/info?folder=data/.hidden", {}, 404),
    ("GET", "/api/v1/sources/info?folder=data/%00", {}, 404),
    ("GET", "/api/v1/sources/info?builtin=/etc/passwd", {}, 404),
    ("GET", "/api/v1/sources/info?builtin=moons&folder=data", {}, 422),
    ("PUT", RUNS, {}, 405),
    ("TRACE", RUNS, {}, 405),
    ("DELETE", f"{RUNS}/unknown", {}, 404),
    ("POST", f"{RUNS}/rows/stop", {}, 409),
    ("POST", f"{RUNS}/rows/resume", {}, 409),
    ("POST", f"{RUNS}/rows/extend", {"json": {"steps": 1}}, 422),
    ("POST", f"{RUNS}/rows/extend", {"json": {"budget": "9999d"}}, 422),
]
BODIES = [
    ("POST", SAMPLE, raw("{"), 422),
    ("POST", SAMPLE, raw('{"n": 1}', "text/plain"), 422),
    ("POST", SAMPLE, raw('{"n": 1}', "application/x-www-form-urlencoded"), 422),
    ("POST", SAMPLE, raw("[" * 100_000), 400),
    ("POST", SAMPLE, raw(b"\xff\xfe"), 422),
    ("POST", SAMPLE, raw('{"n": 1, "label": "' + "x" * 2**20 + '"}'), 413),
    ("POST", SAMPLE, raw('{"n": 1e999}'), 422),
    ("POST", SAMPLE, raw('{"guidance": NaN}'), 422),
    ("POST", SAMPLE, drawn(n=0), 422),
    ("POST", SAMPLE, drawn(n=10**9), 422),
    ("POST", SAMPLE, drawn(n="3"), 422),
    ("POST", SAMPLE, drawn(n=True), 422),
    ("POST", SAMPLE, drawn(steps=10**6), 422),
    ("POST", SAMPLE, drawn(batch=10**6), 422),
    ("POST", SAMPLE, drawn(seed=-1), 422),
    ("POST", SAMPLE, drawn(form="exe"), 422),
    ("POST", SAMPLE, drawn(method="../ddim"), 422),
    ("POST", SAMPLE, drawn(label="/etc/passwd"), 422),
    ("POST", SAMPLE, drawn(where="/etc/passwd"), 422),
    ("POST", SAMPLE, drawn(where={"age": {"a": 1}}), 422),
    ("POST", SAMPLE, drawn(given="/etc/passwd"), 422),
    ("POST", SAMPLE, drawn(out="/tmp/x.npy"), 422),
    ("POST", SAMPLE, drawn(plugin=["x.py"]), 422),
    ("POST", f"{RUNS}/rows/score", drawn(upload="../../rows"), 422),
    ("POST", f"{RUNS}/rows/score", drawn(upload="unknown"), 404),
    ("POST", f"{RUNS}/unknown/sample", drawn(n=1), 404),
    ("POST", f"{RUNS}/hostile/sample", drawn(n=1), 422),
    ("POST", "/api/v1/compare", {"json": {"runs": ["rows", "../x"]}}, 404),
    ("POST", "/api/v1/compare", {"json": {"runs": ["rows"]}}, 422),
]
TRAININGS = [
    ("POST", RUNS, new(name="../new"), 422),
    ("POST", RUNS, new(name="a/b"), 422),
    ("POST", RUNS, new(name=".undiffuse"), 422),
    ("POST", RUNS, new(name=""), 422),
    ("POST", RUNS, new(name="new\n"), 422),
    ("POST", RUNS, new(name="--overwrite"), 422),
    ("POST", RUNS, new(name="rows"), 409),
    ("POST", RUNS, new(name="linked"), 409),
    ("POST", RUNS, new(source={}), 422),
    ("POST", RUNS, new(source={"builtin": "moons", "folder": "data"}), 422),
    ("POST", RUNS, new(source={"builtin": "/etc/passwd"}), 404),
    ("POST", RUNS, new(source={"builtin": "hf://someone/data"}), 404),
    ("POST", RUNS, new(source={"folder": "data/../../etc"}), 404),
    ("POST", RUNS, new(source={"upload": "unknown"}), 404),
    ("POST", RUNS, new(preset="../x"), 422),
    ("POST", RUNS, new(budget="10m"), 422),
    ("POST", RUNS, {"json": {**NEW, "steps": None, "budget": "9999d"}}, 422),
    ("POST", RUNS, {"json": {**NEW, "steps": 10**12}}, 422),
    ("POST", RUNS, options(plugin=["x.py"]), 422),
    ("POST", RUNS, options(out="/tmp/x"), 422),
    ("POST", RUNS, options(config="/etc/passwd"), 422),
    ("POST", RUNS, options(init="hf://someone/model"), 422),
    ("POST", RUNS, options(log=["wandb"]), 422),
    ("POST", RUNS, options(resume=True), 422),
    ("POST", RUNS, options(overwrite=True), 422),
    ("POST", RUNS, options(device="cuda"), 422),
    ("POST", RUNS, options(**{"data.labels": "/etc/passwd:x"}), 422),
    ("POST", RUNS, options(condition=["/etc/passwd"]), 422),
    ("POST", RUNS, options(condition=["../masks/"]), 422),
    ("POST", RUNS, options(condition=["x.csv:age"]), 422),
    ("POST", RUNS, options(**{"model.width": 10**6}), 422),
    ("POST", RUNS, options(**{"model.multipliers": [1, 10**6]}), 422),
    ("POST", RUNS, options(**{"model": {"width": 8}}), 422),
    ("POST", RUNS, options(**{"training.batch": 10**9}), 422),
    ("POST", RUNS, options(**{"training.lr": "1"}), 422),
    ("POST", RUNS, options(latent=4), 422),
    ("POST", RUNS, options(**{"data.drop": ["a\nb = 1"]}), 422),
]
UPLOADED = [
    ("POST", "/api/v1/uploads", sent("../x.csv"), 422),
    ("POST", "/api/v1/uploads", sent("a/../../x.csv"), 422),
    ("POST", "/api/v1/uploads", sent("/etc/x.csv"), 422),
    ("POST", "/api/v1/uploads", sent("C:/x.csv"), 422),
    ("POST", "/api/v1/uploads", sent("..\\\\x.csv"), 422),
    ("POST", "/api/v1/uploads", sent("a//x.csv"), 422),
    ("POST", "/api/v1/uploads", sent("./x.csv"), 422),
    ("POST", "/api/v1/uploads", sent("~/x.csv"), 422),
    ("POST", "/api/v1/uploads", sent("a\0.csv"), 422),
    ("POST", "/api/v1/uploads", sent(f"{'x' * 300}.csv"), 422),
    ("POST", "/api/v1/uploads", sent("/".join(["a"] * 30) + "/x.csv"), 422),
    ("POST", "/api/v1/uploads", sent("x" * 9000), 400),
    ("POST", "/api/v1/uploads", sent("x.zip"), 415),
    ("POST", "/api/v1/uploads", sent("x.tar.gz"), 415),
    ("POST", "/api/v1/uploads", sent("x.pkl"), 415),
    ("POST", "/api/v1/uploads", sent("x.h5"), 415),
    ("POST", "/api/v1/uploads", sent("x.svg"), 415),
    ("POST", "/api/v1/uploads", sent("x.py"), 415),
    ("POST", "/api/v1/uploads", sent("x"), 415),
    ("POST", "/api/v1/uploads", sent("x.png", eps()), 415),
    ("POST", "/api/v1/uploads", sent("x.png", bomb()), 413),
    ("POST", "/api/v1/uploads", sent("x.gif", frames()), 413),
    ("POST", "/api/v1/uploads", raw(b"", "multipart/form-data; boundary=x"), 422),
    ("POST", "/api/v1/uploads", raw(b"--x--\r\n", "multipart/form-data; boundary=x"), 422),
    ("POST", "/api/v1/uploads", raw(b"--x\r\nA: b", "multipart/form-data; boundary=x"), 422),
    ("POST", "/api/v1/uploads", raw(b"nonsense", "multipart/form-data; boundary=x"), 400),
    ("POST", "/api/v1/uploads", raw(b"a,b\n1,2\n", "text/csv"), 415),
    ("POST", "/api/v1/uploads", raw(b"", "multipart/form-data"), 415),
    (
        "POST",
        "/api/v1/uploads",
        raw(
            b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
        ),
        422,
    ),
    (
        "POST",
        "/api/v1/uploads",
        raw(
            b"--x\r\nContent-Disposition: form-data; name=f; filename=a.csv\r\n\r\n1,2",
            "multipart/form-data; boundary=x",
        ),
        400,
    ),
]
HOSTILE = [*STRANGERS, *PLACES, *BODIES, *TRAININGS, *UPLOADED]


@pytest.fixture(scope="module")
def attacked(shared, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The shared service, with a stranger's run in it and links that lead out of it."""
    folder = shared.app.state.service.settings.folder
    secret = tmp_path_factory.mktemp("secret") / "passwd"
    secret.write_text("secret,words\n1,2\n3,4\n")
    (folder / "linked").symlink_to(folder / "rows")
    (folder / "hostile" / "samples").mkdir(parents=True)
    (folder / "hostile" / "config.json").write_bytes((folder / "rows/config.json").read_bytes())
    (folder / "hostile" / "log.jsonl").symlink_to(secret)
    (folder / "hostile" / "report.html").symlink_to(secret)
    (folder / "hostile" / "samples" / "step-000007.png").symlink_to(secret)
    (trained / "data" / "way-out").symlink_to(secret.parent)
    (trained / "data" / ".hidden").mkdir()
    yield shared
    (trained / "data" / "way-out").unlink()
    (folder / "linked").unlink()
    (trained / "data" / ".hidden").rmdir()
    shutil.rmtree(folder / "hostile")


@pytest.mark.parametrize(
    ("method", "path", "request_", "status"),
    HOSTILE,
    ids=[f"{number}-{one[0]}-{one[3]}" for number, one in enumerate(HOSTILE)],
)
def test_a_hostile_request_is_refused(
    attacked, method: str, path: str, request_: dict[str, Any], status: int
) -> None:
    service = attacked.app.state.service
    headers = request_.get("headers", BEARER)
    before = len(service.uploads.all())
    attacked.headers.pop("authorization", None)
    attacked.cookies.clear()
    try:
        answer = attacked.request(method, path, **{**request_, "headers": headers})
    finally:
        attacked.headers.update(BEARER)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    tree = answer.json()
    assert set(tree) == {"type", "title", "status", "detail"}
    assert tree["status"] == status
    assert tree["detail"].endswith((".", ")")), tree["detail"]
    assert "Traceback" not in answer.text
    for place in (service.settings.folder, service.scratch.path, Path(__file__).parents[2]):
        assert str(place) not in answer.text
    assert len(service.uploads.all()) == before
    assert len(list(service.scratch.folder("uploads").iterdir())) == before
    assert not service.trainings.waiting()
    assert not service.trainings.alive()


def test_the_token_in_the_address_becomes_a_cookie(shared) -> None:
    bare = {"headers": {"authorization": ""}}
    entered = shared.get(f"/?token={TOKEN}", **bare)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert cookie == f"undiffuse-8000={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
    shared.cookies.clear()
    assert shared.get("/", headers={"authorization": "", **COOKIE}).status_code == 200
    assert shared.get(RUNS, headers={"authorization": "", **COOKIE}).status_code == 200
    ours = {"authorization": "", **COOKIE, "origin": f"http://{HOST}"}
    assert shared.post(SAMPLE, headers=ours, json={"n": 1}).status_code == 200
    away = shared.get(f"http://{HOST}//evil.example/?token={TOKEN}", **bare)
    assert away.headers["location"] == "/evil.example/"
    shared.cookies.clear()


def test_every_answer_says_what_a_page_may_load(shared) -> None:
    for path in ("/", "/api/v1/runs", "/api/openapi.json", "/nothing"):
        headers = shared.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in
                      headers["content-security-policy"].split(";"))  # fmt: skip
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"


def test_what_was_uploaded_is_never_unpickled(shared) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (Path("/nowhere/unpickled"),))

    file = io.BytesIO()
    np.save(file, np.array([Evil(), Evil()], dtype=object), allow_pickle=True)
    archive = io.BytesIO()
    np.savez(archive, data=np.array([Evil()], dtype=object))
    for name, content in (
        ("x.npy", file.getvalue()),
        ("x.npz", archive.getvalue()),
        ("y.npy", pickle.dumps(Evil())),
    ):
        made = shared.post("/api/v1/uploads", files=[("files", (name, content))]).json()
        answer = shared.get(f"/api/v1/uploads/{made['id']}")
        assert answer.status_code == 422, answer.text
        assert shared.delete(f"/api/v1/uploads/{made['id']}").status_code == 204


def test_a_stranger_cannot_lengthen_a_body_behind_its_header(shared) -> None:
    """A body that is sent in parts, without its length, is counted as it comes."""

    def parts() -> Any:
        yield b'{"n": 1, "label": "'
        for _ in range(300):
            yield b"x" * 8192
        yield b'"}'

    headers = {"content-type": "application/json"}
    assert shared.post(SAMPLE, content=parts(), headers=headers).status_code == 413


def test_the_description_of_the_api_names_every_address(shared) -> None:
    tree = shared.get("/api/openapi.json").json()
    named = {(method.upper(), path) for path, own in tree["paths"].items() for method in own}
    routes = {
        (method, route.path)
        for route in shared.app.routes
        for method in getattr(route, "methods", ())
        if str(route.path).startswith("/api/v1")
    }
    assert {(method, path) for method, path in routes if method != "HEAD"} <= named
    assert "ProblemDetails" in tree["components"]["schemas"]
    assert json.dumps(tree)


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("models.example", "https://models.example", 200),
        ("127.0.0.1:8000", "https://models.example", 200),  # a proxy that sends its own Host
        ("models.example", "http://models.example", 200),
        ("127.0.0.1:8000", "http://models.example", 403),
        ("127.0.0.1:8000", "https://models.example.evil", 403),
        ("127.0.0.1:8000", "https://127.0.0.1:9000", 403),
        ("127.0.0.1:8000", "https://localhost", 403),
        ("127.0.0.1:8000", "https://[", 403),
        ("evil.example", "https://evil.example", 403),
        ("MODELS.example.", "https://MODELS.example.", 200),
    ],
)
def test_a_proxy_that_was_allowed_may_stand_before_it(host: str, origin: str, status: int) -> None:
    async def answers(scope: Any, receive: Any, send: Any) -> None:
        await Response("here")(scope, receive, send)

    guard = Guard(answers, token=TOKEN, hosts=(*LOOPBACK, "models.example"))
    headers = {**BEARER, "host": host, "origin": origin}
    answer = TestClient(guard).post("/", headers=headers)
    assert answer.status_code == status, answer.text
