"""What a browser opens: the page and its files, reports, comparisons.

Files of the page have one of a few types, and are found by name in a list made at the start. A
report may be that of a stranger's run: it is served in a sandbox, in which no script runs and
nothing is loaded.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, Response

from undiffuse.web.api import Served
from undiffuse.web.problems import Refusal
from undiffuse.web.safety import REPORT_POLICY

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
_HTML = "text/html; charset=utf-8"
router = APIRouter(include_in_schema=False)


@cache
def static_files() -> dict[str, Path]:
    """Return the files of the page by their paths below `static`."""
    files = (file for file in STATIC.rglob("*") if file.is_file() and file.suffix in TYPES)
    return {str(file.relative_to(STATIC)): file for file in files}


@router.get("/")
def index() -> Response:
    """The page."""
    return static("index.html")


@router.get("/static/{name:path}")
def static(name: Annotated[str, PathParameter(max_length=200)]) -> Response:
    """A file of the page."""
    if (file := static_files().get(name)) is None:
        raise Refusal(404, "there is nothing at this address.")
    return FileResponse(file, media_type=TYPES[file.suffix], headers={"cache-control": "no-cache"})


@router.get("/favicon.ico")
def icon() -> Response:
    """The icon that browsers ask for by themselves."""
    return static("icon.svg") if "icon.svg" in static_files() else Response(status_code=204)


@router.get("/runs/{name}/report")
def report(name: str, service: Served) -> Response:
    """The report of a run, in a sandbox."""
    file = service.runs.file(name, "report.html")
    return FileResponse(file, media_type=_HTML, headers={"content-security-policy": REPORT_POLICY})


@router.get("/comparisons/{id}")
def comparison(id: str, service: Served) -> Response:
    """A comparison, in a sandbox."""
    job = service.jobs.find(id)
    if job.result is None or job.what != "compare":
        raise Refusal(404, "comparison: there is none of this name, or not yet.")
    return FileResponse(
        job.result.file, media_type=_HTML, headers={"content-security-policy": REPORT_POLICY}
    )
