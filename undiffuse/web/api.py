"""/api/v1: what programs and the page ask for. Each answer is typed; see `schemas`.

runs, runs/{name}, .../events, .../samples/{step}.png, .../stop|resume|extend
runs/{name}/sample|complete|score|evaluate, compare     a job: waits, or 202 if asked to
jobs/{id}, .../events, .../result
uploads, sources, options
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from undiffuse.catalogue import presets as catalogue
from undiffuse.declared import choices, options_of
from undiffuse.models import PRESETS
from undiffuse.models.presets import dimensions, options
from undiffuse.options import SampleOptions
from undiffuse.web.allowed import described
from undiffuse.web.jobs import Job, Outcome
from undiffuse.web.problems import Refusal
from undiffuse.web.schemas import (
    Card,
    CompareRequest,
    CompleteRequest,
    EvaluateRequest,
    JobAnswer,
    Length,
    OptionsAnswer,
    ProblemDetails,
    RunDetail,
    Runs,
    SampleRequest,
    ScoreRequest,
    SourceFacts,
    SourcesAnswer,
    TrainRequest,
    UploadAnswer,
)
from undiffuse.web.service import Service
from undiffuse.web.sources import SourceFound
from undiffuse.web.streams import MEDIA, events_of_job, events_of_run
from undiffuse.web.uploads import SUFFIXES

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemDetails, "content": {"application/problem+json": {}}}
    for status in (401, 403, 404, 409, 413, 422, 429)
}
SMALL = 2**20  # bytes of a result that is read at once; others are streamed
router = APIRouter(prefix="/api/v1", responses=PROBLEMS)


def service_of(request: Request) -> Service:
    """Return the service that answers a request."""
    return request.app.state.service


Served = Annotated[Service, Depends(service_of)]
RunName = Annotated[str, Path(max_length=255)]
JobId = Annotated[str, Path(max_length=64)]
Prefer = Annotated[str | None, Header()]


# --- runs


@router.get("/runs", response_model=Runs)
def list_runs(service: Served) -> Any:
    """All runs in the folder."""
    return {"runs": service.cards()}


@router.post("/runs", response_model=Card, status_code=201)
def train_run(asked: TrainRequest, service: Served, response: Response) -> Any:
    """Train a new run, in a process of its own."""
    card = service.train(asked)
    response.headers["location"] = f"/api/v1/runs/{asked.name}"
    return card


@router.get("/runs/{name}", response_model=RunDetail)
def show_run(name: RunName, service: Served) -> Any:
    """A run in full."""
    return service.detail(name)


@router.delete("/runs/{name}", status_code=204)
def delete_run(name: RunName, service: Served) -> None:
    """Delete a run."""
    service.delete(name)


@router.post("/runs/{name}/stop", response_model=Card)
def stop_run(name: RunName, service: Served) -> Any:
    """Let a training save and stop."""
    before = service.card(name)
    return service.stop(name) or {**before, "state": "stopped"}


@router.post("/runs/{name}/resume", response_model=Card)
def resume_run(name: RunName, service: Served) -> Any:
    """Resume a run that was stopped."""
    return service.resume(name)


@router.post("/runs/{name}/extend", response_model=Card)
def extend_run(name: RunName, asked: Length, service: Served) -> Any:
    """Train a run for longer: `steps` or `budget` are those of the training in all."""
    return service.resume(name, asked)


@router.get("/runs/{name}/events", response_class=StreamingResponse)
async def follow_run(
    name: RunName, service: Served, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """What happens in a training, as server-sent events: the lines of log.jsonl."""
    service.check_watchers()
    await run_in_threadpool(service.card, name)
    log = service.settings.folder / name / "log.jsonl"
    after = int(last_event_id) if last_event_id and last_event_id[:15].isdecimal() else 0

    def alive() -> bool:
        return service.trainings.is_alive(name) or name in service.trainings.waiting()

    async def stream() -> AsyncIterator[bytes]:
        with service.watching():
            async for part in events_of_run(log, after, alive, service.is_closing):
                yield part

    return StreamingResponse(stream(), media_type=MEDIA)


@router.get("/runs/{name}/samples/{step}.png", response_class=FileResponse)
def show_samples(name: RunName, step: Annotated[int, Path(ge=0)], service: Served) -> Response:
    """The samples that were drawn at a step of the training."""
    file = service.runs.file(name, "samples", f"step-{step:06d}.png")
    return FileResponse(file, media_type="image/png", headers={"cache-control": "private"})


# --- jobs


async def answer(
    service: Service,
    request: Request,
    prefer: str | None,
    what: str,
    run: str,
    work: Callable[[Job], Outcome],
) -> Response:
    """Let a job be done, and return its result, or at once where it waits the job itself."""
    job = service.jobs.submit(what, run, work)
    if prefer is not None and "respond-async" in prefer:
        headers = {"location": f"/api/v1/jobs/{job.id}", "preference-applied": "respond-async"}
        body = JobAnswer(**told(service, job)).model_dump_json()
        return Response(body, 202, headers, media_type="application/json")
    if not await ended(job, request):
        service.jobs.discard(job)
        return Response(status_code=499)  # nobody is there to read it
    try:
        return result_of(service, job, discard=True)
    except BaseException:
        service.jobs.discard(job)
        raise


async def ended(job: Job, request: Request) -> bool:
    """Wait for a job; return False if the client has left before its end."""
    end = asyncio.ensure_future(asyncio.wrap_future(job.ended))
    left = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({end, left}, return_when=asyncio.FIRST_COMPLETED)
        return end.done()
    except asyncio.CancelledError:
        job.cancel()
        raise
    finally:
        left.cancel()
        if not end.done():
            end.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def result_of(service: Service, job: Job, *, discard: bool = False) -> Response:
    """Return the file that a job left. Raises Refusal if it has none."""
    if job.state in ("waiting", "working"):
        raise Refusal(409, "job: is not done yet.")
    if job.state != "done" or job.result is None:
        detail = job.problem or "job: was cancelled."
        raise Refusal(422 if job.state == "failed" else 409, detail)
    found = job.result
    if found.media.startswith("text/html"):
        raise Refusal(409, "job: its result is a page; see the address in `page`.")
    if job.size <= SMALL:
        headers = {"content-disposition": f'attachment; filename="{found.name}"'}
        content = found.file.read_bytes()
        if discard:
            service.jobs.discard(job)
        return Response(content, headers=headers, media_type=found.media)
    return FileResponse(
        found.file,
        media_type=found.media,
        filename=found.name,
        background=BackgroundTask(service.jobs.discard, job) if discard else None,
    )


def told(service: Service, job: Job) -> dict[str, Any]:
    """Return what there is to say of a job."""
    page = job.result is not None and job.result.media.startswith("text/html")
    return {
        "id": job.id,
        "what": job.what,
        "run": job.run,
        "state": job.state,
        "done": job.done,
        "of": job.of,
        "place": service.jobs.place(job),
        "problem": service.told(job.problem),
        "seconds": job.seconds,
        "notes": list(job.notes),
        "result": f"/api/v1/jobs/{job.id}/result" if job.state == "done" and not page else None,
        "page": f"/comparisons/{job.id}" if page else None,
    }


@router.post("/runs/{name}/sample", response_class=FileResponse)
async def draw_samples(
    name: RunName, asked: SampleRequest, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """Draw samples; the bytes are those of `undiffuse sample` with the same options."""
    service.runs.path(name)
    work = partial(_work, service.work.sample, asked)
    return await answer(service, request, prefer, "sample", name, work)


@router.post("/runs/{name}/complete", response_class=FileResponse)
async def complete_upload(
    name: RunName, asked: CompleteRequest, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """Complete uploaded rows: `n` completions of each."""
    service.runs.path(name)
    service.uploads.find(asked.upload)
    work = partial(_work, service.work.sample, asked)
    return await answer(service, request, prefer, "complete", name, work)


@router.post("/runs/{name}/score", response_class=FileResponse)
async def score_upload(
    name: RunName, asked: ScoreRequest, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """Score uploaded rows."""
    service.runs.path(name)
    service.uploads.find(asked.upload)
    work = partial(_work, service.work.score, asked)
    return await answer(service, request, prefer, "score", name, work)


@router.post("/runs/{name}/evaluate", response_class=FileResponse)
async def evaluate_run(
    name: RunName, asked: EvaluateRequest, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """Evaluate a run; writes its report."""
    service.runs.path(name)
    work = partial(_work, service.work.evaluate, asked)
    return await answer(service, request, prefer, "evaluate", name, work)


@router.post("/compare", response_model=JobAnswer)
async def compare_runs(
    asked: CompareRequest, service: Served, request: Request, prefer: Prefer = None
) -> Any:
    """Compare runs of the same data; the answer says where the page is."""
    for name in asked.runs:
        service.runs.path(name)
    job = service.jobs.submit("compare", "", partial(_work, service.work.compare, asked))
    if prefer is not None and "respond-async" in prefer:
        body = JobAnswer(**told(service, job)).model_dump_json()
        headers = {"location": f"/api/v1/jobs/{job.id}"}
        return Response(body, 202, headers, media_type="application/json")
    if not await ended(job, request):
        service.jobs.discard(job)
        return Response(status_code=499)
    if job.state != "done":
        raise Refusal(422 if job.state == "failed" else 409, job.problem or "job: was cancelled.")
    return told(service, job)


def _work(work: Callable[[Job, Any], Outcome], asked: Any, job: Job) -> Outcome:
    return work(job, asked)


@router.get("/jobs/{id}", response_model=JobAnswer)
def show_job(id: JobId, service: Served) -> Any:
    """How far a job is."""
    return told(service, service.jobs.find(id))


@router.delete("/jobs/{id}", status_code=204)
def cancel_job(id: JobId, service: Served) -> None:
    """Cancel a job; of one that has ended, remove the result."""
    job = service.jobs.find(id)
    if job.ended.done():
        service.jobs.discard(job)
    else:
        service.jobs.cancel(job)


@router.get("/jobs/{id}/events", response_class=StreamingResponse)
async def follow_job(id: JobId, service: Served) -> Response:
    """How far a job is, as server-sent events, with pictures of what is being drawn."""
    service.check_watchers()
    job = service.jobs.find(id)

    async def stream() -> AsyncIterator[bytes]:
        with service.watching():
            async for part in events_of_job(job, partial(told, service), service.is_closing):
                yield part

    return StreamingResponse(stream(), media_type=MEDIA)


@router.get("/jobs/{id}/result", response_class=FileResponse)
def fetch_result(id: JobId, service: Served) -> Response:
    """What came of a job."""
    return result_of(service, service.jobs.find(id))


# --- data


@router.post("/uploads", response_model=UploadAnswer, status_code=201)
async def upload(request: Request, service: Served) -> Any:
    """Send files as multipart/form-data; their names may be relative paths."""
    kind = request.headers.get("content-type", "")
    found = await service.uploads.receive(kind, request.stream())
    return {"id": found.id, "name": found.name, "files": found.files, "bytes": found.bytes,
            "left_out": found.left_out}  # fmt: skip


@router.get("/uploads/{id}", response_model=SourceFacts)
def show_upload(id: JobId, service: Served) -> Any:
    """What `undiffuse info` finds of uploaded data."""
    return _found(service.sources.facts("upload", id), f"/api/v1/uploads/{id}/preview.png")


@router.get("/uploads/{id}/preview.png", response_class=Response)
def show_upload_picture(id: JobId, service: Served) -> Response:
    """A picture of uploaded data."""
    return Response(service.sources.facts("upload", id).preview, media_type="image/png")


@router.delete("/uploads/{id}", status_code=204)
def delete_upload(id: JobId, service: Served) -> None:
    """Remove uploaded data."""
    service.uploads.remove(id)


@router.get("/sources", response_model=SourcesAnswer)
def list_sources(service: Served) -> Any:
    """What a run can be trained on besides uploads."""
    folders = [{"root": root, "entries": service.sources.entries(root)}
               for root in service.sources.roots]  # fmt: skip
    return {"builtin": service.sources.builtin, "folders": folders}


Builtin = Annotated[str | None, Query(max_length=100)]
Below = Annotated[str | None, Query(max_length=2000)]


def _named(builtin: str | None, folder: str | None) -> tuple[str, str]:
    if (builtin is None) == (folder is None):
        raise Refusal(422, "give one of builtin and folder.")
    return ("builtin", builtin) if builtin is not None else ("folder", str(folder))


@router.get("/sources/info", response_model=SourceFacts)
def show_source(service: Served, builtin: Builtin = None, folder: Below = None) -> Any:
    """What `undiffuse info` finds of a source."""
    from urllib.parse import urlencode

    kind, name = _named(builtin, folder)
    facts = service.sources.facts(kind, name)
    return _found(facts, f"/api/v1/sources/preview.png?{urlencode({kind: name})}")


@router.get("/sources/preview.png", response_class=Response)
def show_source_picture(service: Served, builtin: Builtin = None, folder: Below = None) -> Response:
    """A picture of a source."""
    facts = service.sources.facts(*_named(builtin, folder))
    return Response(facts.preview, media_type="image/png")


def _found(facts: SourceFound, preview: str) -> dict[str, Any]:
    return {**facts.tree, "preview": preview}


@router.get("/options", response_model=OptionsAnswer)
def list_options() -> Any:
    """Presets, sampling methods, and the options that a training can set."""
    presets = [
        {
            "name": name,
            "help": str(catalogue[name]["what"]),
            "options": list(options(name)),
            "sizes": sorted({size for own in dimensions(name).values() for size in own}),
        }
        for name in PRESETS
    ]
    methods = list(choices(options_of(SampleOptions)["method"].type))
    uploads = {kind: list(suffixes) for kind, suffixes in SUFFIXES.items()}
    return {"presets": presets, "methods": methods, "train": described(), "uploads": uploads}
