"""Errors as problem details (RFC 9457): {"type", "title", "status", "detail"}.

    InputError                   422, and its sentence is the detail
    a request of another shape   422, and what is wrong in it in a sentence
    Refusal                      the status that it has

A bug is 500 without a word of it: the traceback goes to the server's own output.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from undiffuse.errors import InputError

MEDIA = "application/problem+json"


@final
class Refusal(Exception):
    """A request that is not answered; `status` says why in a number, `detail` in a sentence."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def problem_response(
    status: int, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the problem details of a refusal.

    >>> problem_response(404, "no such run.").body
    b'{"type":"about:blank","title":"Not Found","status":404,"detail":"no such run."}'
    """
    tree = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return JSONResponse(tree, status, headers=dict(headers or {}), media_type=MEDIA)


def install(app: FastAPI) -> None:
    """Let `app` answer errors as problem details."""

    async def refused(request: Request, problem: Any) -> JSONResponse:
        return problem_response(problem.status, problem.detail, problem.headers)

    async def unusable(request: Request, problem: Any) -> JSONResponse:
        return problem_response(422, " ".join(str(problem).split()))

    async def unroutable(request: Request, problem: Any) -> JSONResponse:
        known = {
            400: "the body cannot be read.",
            404: "there is nothing at this address.",
            405: "this address takes other methods.",
        }
        detail = known.get(problem.status_code, str(problem.detail))
        return problem_response(problem.status_code, detail, problem.headers)

    async def misshapen(request: Request, problem: Any) -> JSONResponse:
        return problem_response(422, said_of(problem.errors()))

    async def failed(request: Request, problem: Any) -> JSONResponse:
        return problem_response(500, "this failed in the server, whose output says why.")

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(InputError, unusable)
    app.add_exception_handler(HTTPException, unroutable)
    app.add_exception_handler(RequestValidationError, misshapen)
    app.add_exception_handler(Exception, failed)


def said_of(errors: Any) -> str:
    """Return what is wrong with a request in a sentence; what was given is not repeated.

    >>> said_of([{"loc": ("body", "n"), "msg": "Input should be greater than 0"}])
    'n: input should be greater than 0.'
    """
    parts = []
    for one in list(errors)[:3]:
        if one.get("type") == "json_invalid":
            return "body: is no sound JSON."
        where = ".".join(str(name) for name in one["loc"] if name not in ("body", "query", "path"))
        text = str(one["msg"]).removeprefix("Value error, ").rstrip(".")
        text = text[:1].lower() + text[1:]
        parts.append(f"{where}: {text}" if where else text)
    return "; ".join(parts) + "."
