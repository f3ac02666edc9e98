"""What requests and answers look like: pydantic models, from which openapi.json is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from undiffuse.web import limits
from undiffuse.web.jobs import JobState

Text = Annotated[str, StringConstraints(max_length=200)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_\-]{1,64}$")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
RowsForm = Literal["npy", "npz", "csv", "parquet", "zip", "png"]
Cell = str | float | int | bool | None


class Request(BaseModel):
    """A body: nothing but what is declared, in its own type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class InBatches(Request):
    """What is computed in batches."""

    seed: Seed = 0
    batch: Annotated[int, Field(ge=1, le=limits.BATCH)] | None = None


class SampleRequest(InBatches):
    """What to draw."""

    n: Annotated[int, Field(ge=1, le=limits.SAMPLES)] = 1
    label: Text | None = None
    where: dict[Text, Cell] | None = Field(None, description="conditions by name")
    guidance: Annotated[float, Field(ge=0, le=1000)] | None = None
    method: Text | None = None
    steps: Annotated[int, Field(ge=1, le=limits.PASSES)] | None = None
    form: RowsForm | None = Field(None, description="default: that of the data")


class CompleteRequest(SampleRequest):
    """What to complete: rows with gaps (empty cells, NaN, transparent pixels)."""

    upload: Id


class ScoreRequest(InBatches):
    """What to score."""

    upload: Id
    alarm: Annotated[float, Field(gt=0, lt=1)] | None = None
    label: Text | None = None
    where: dict[Text, Cell] | None = None
    method: Literal["elbo", "ode", "importance"] | None = None
    draws: Annotated[int, Field(ge=1, le=limits.PASSES)] | None = None
    evaluations: Annotated[int, Field(ge=1, le=limits.PASSES)] | None = None
    calibration: Annotated[int, Field(ge=1, le=limits.SAMPLES)] | None = None
    no_calibration: bool = False
    form: Literal["csv", "npz", "json", "parquet"] = "csv"


class EvaluateRequest(InBatches):
    """How to evaluate."""

    n: Annotated[int, Field(ge=16, le=limits.SAMPLES)] | None = None
    method: Text | None = None
    steps: Annotated[int, Field(ge=1, le=limits.PASSES)] | None = None
    rows: Annotated[int, Field(ge=1, le=limits.SAMPLES)] | None = None


class CompareRequest(InBatches):
    """Which runs to compare, all of the same data."""

    runs: Annotated[list[Text], Field(min_length=2, max_length=limits.COMPARED)]
    n: Annotated[int, Field(ge=16, le=limits.SAMPLES)] = 1000
    rows: Annotated[int, Field(ge=1, le=limits.SAMPLES)] = 500


class SourceRequest(Request):
    """What to train on: exactly one of them."""

    upload: Id | None = None
    builtin: Text | None = None
    folder: Annotated[str, StringConstraints(max_length=2000)] | None = None

    @model_validator(mode="after")
    def _one(self) -> SourceRequest:
        if len(self.model_fields_set & {"upload", "builtin", "folder"}) != 1 or not self.named[1]:
            raise ValueError("give one of upload, builtin and folder")
        return self

    @property
    def named(self) -> tuple[str, str]:
        """Which it is, and its name."""
        pairs = (("upload", self.upload), ("builtin", self.builtin), ("folder", self.folder))
        return next(((kind, name) for kind, name in pairs if name), ("", ""))


class Length(Request):
    """How long to train: one of them, at most."""

    budget: Text | Annotated[float, Field(gt=0)] | None = Field(
        None, description="seconds, or text such as 10m"
    )
    steps: Annotated[int, Field(ge=1, le=limits.STEPS)] | None = None

    @model_validator(mode="after")
    def _not_both(self) -> Length:
        if self.budget is not None and self.steps is not None:
            raise ValueError("give a budget or steps, not both")
        return self


class TrainRequest(Length):
    """A new run."""

    name: Name
    source: SourceRequest
    preset: Text = "edm"
    seed: Seed = 0
    options: dict[Text, Any] = Field(
        default_factory=dict, description="of /api/v1/options, by their dotted names"
    )


class Reply(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="ignore")


class Card(Reply):
    """A run in a few facts."""

    name: str
    kind: str = ""
    preset: str | None = None
    state: Literal["training", "waiting", "finished", "stopped", "damaged", "failed"]
    stopping: bool = False
    step: int = 0
    steps: int | None = None
    budget: float | None = None
    elapsed: float | None = None
    left: float | None = None
    rows_per_second: float | None = None
    held_out: float | None = None
    modified: str = ""
    preview: str | None = None
    problem: str = ""
    source: str = ""
    parameters: int | None = None
    shape: str = ""
    size: list[int] | None = None
    labels: list[str] | None = None
    conditions: list[str] = []
    likelihood: bool = False
    diffusion: bool = False
    gaps: bool = False
    form: str = ""
    report: bool = False


class Curves(Reply):
    """Losses: of training, held out, and held out at each noise level."""

    train: list[tuple[int, float]]
    held_out: list[tuple[int, float]]
    levels: dict[str, list[float | None]] | None


class RunDetail(Card):
    """A run in full."""

    facts: list[tuple[str, str]] = []
    sampler: dict[str, Any] | None = None
    curves: Curves | None = None
    samples: list[int] = []
    snapshots: list[int] = []
    warnings: list[str] = []
    notes: list[str] = []
    options: dict[str, Any] = {}
    methods: list[str] = []


class Runs(Reply):
    """All runs."""

    runs: list[Card]


class JobAnswer(Reply):
    """A job."""

    id: str
    what: str
    run: str
    state: JobState
    done: int
    of: int
    place: int
    problem: str
    seconds: float
    notes: list[str] = []
    result: str | None = None
    page: str | None = None


class UploadAnswer(Reply):
    """What was sent."""

    id: str
    name: str
    files: int
    bytes: int
    left_out: list[str] = []


class ColumnAnswer(Reply):
    """A column of a table."""

    name: str
    type: str
    facts: dict[str, str] = {}
    histogram: dict[str, list[Any]] | None = None


class RowsAnswer(Reply):
    """A few rows, cell by cell, as a file of them has them."""

    columns: list[str]
    cells: list[list[str]]


class SourceFacts(Reply):
    """What `undiffuse info` finds of a source; of a few rows of cells the rows themselves."""

    kind: str
    facts: list[tuple[str, str]]
    notes: list[str]
    columns: list[ColumnAnswer]
    rows: RowsAnswer | None = None
    classes: list[str] = []
    preview: str


class FolderAnswer(Reply):
    """What is below a root of --data."""

    root: str
    entries: list[str]


class SourcesAnswer(Reply):
    """What a run can be trained on, uploads left out."""

    builtin: list[str]
    folders: list[FolderAnswer]


class OptionAnswer(Reply):
    """An option of a training."""

    name: str
    type: Literal["whole", "number", "switch", "text", "list", "choice"]
    choices: list[str]
    default: Any
    help: str
    advanced: bool
    most: float | None


class PresetAnswer(Reply):
    """A preset, and the options that it takes besides those of training."""

    name: str
    help: str
    options: list[str]
    sizes: list[str]


class OptionsAnswer(Reply):
    """All that can be chosen."""

    presets: list[PresetAnswer]
    methods: list[str]
    train: list[OptionAnswer]
    uploads: dict[str, list[str]]


class ProblemDetails(Reply):
    """Problem details (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
