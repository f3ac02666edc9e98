"""Files that somebody sends: kept for a day in the server's own folder, and never executed.

A request of multipart/form-data is written to the disk as it comes. Each part is a file with a
relative path, so that a folder keeps its classes. What could lead anywhere else is refused: paths
that are absolute or go up, archives, formats that name other files or start other programs. Among
files that are taken, those of other kinds are left out, and named. What is larger unpacked than on
the disk is measured before anything decodes it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, final

from PIL import Image
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from undiffuse.web.limits import FILES, KEPT_UPLOAD, LISTED, PIXELS, UNPACKED, UPLOAD, UPLOADS
from undiffuse.web.problems import Refusal

DEPTH = 12  # folders within folders
LONGEST = 200  # bytes of a name
PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000", "MPO", "TGA")
SUFFIXES = {
    "images": (
        ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm",
        ".avif", ".jp2", ".tga",
    ),
    "arrays": (".npy", ".npz"),
    "tables": (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"),
    "recordings": (".wav", ".flac", ".ogg", ".mp3"),
}  # fmt: skip
"""What is taken, by kind. Archives and HDF5 are not: they can name files elsewhere."""

HDF5 = (".h5", ".hdf5", ".hdf", ".he5", ".mat")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
LITTER = ("thumbs.db", "desktop.ini")  # what systems put into folders, besides hidden files
_TAKEN = {suffix for suffixes in SUFFIXES.values() for suffix in suffixes}


@final
@dataclass
class Upload:
    """What was sent at once.

    Attributes:
        id: its name in addresses, which cannot be guessed.
        folder: where it is.
        name: of its only file or folder, or "upload".
        files, bytes: how many.
        left_out: the paths of files of kinds that are not taken, the first of them.
        made: when, by the monotonic clock.
    """

    id: str
    folder: Path
    name: str = "upload"
    files: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list)
    made: float = 0.0

    @property
    def path(self) -> Path:
        """What `load` takes: the only file or folder in it, or all of it.

        Images and recordings are read from their folder, also a single one.
        """
        entries = list(self.folder.iterdir())
        single = (*SUFFIXES["images"], *SUFFIXES["recordings"])
        alone = len(entries) == 1 and entries[0].suffix.lower() not in single
        return entries[0] if alone else self.folder


@final
class Uploads:
    """The uploads that are kept, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, Upload] = {}
        self._coming: dict[str, Upload] = {}
        self._lock = threading.Lock()

    async def receive(self, content_type: str, body: AsyncIterator[bytes]) -> Upload:
        """Write a body of multipart/form-data to the disk, and check what came.

        Raises:
            Refusal: it is no such body, or holds what is not taken; nothing of it is kept then.
        """
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Refusal(415, "body: must be multipart/form-data with files in it.")
        self.forget()
        upload = Upload(secrets.token_urlsafe(16), self.folder, made=time.monotonic())
        upload.folder = self.folder / upload.id
        with self._lock:
            kept = sum(one.bytes for one in self._known.values())
            if kept + UPLOAD * (len(self._coming) + 1) > UPLOADS:  # those that come may be large
                raise Refusal(507, "uploads: take all the room they may; come again later.")
            self._coming[upload.id] = upload
        try:
            upload.folder.mkdir(parents=True)
            receiver = _Receiver(upload, options[b"boundary"])
            try:
                async for chunk in body:
                    receiver.write(chunk)
                receiver.close()
            except MultipartParseError as problem:
                raise Refusal(400, "body: is no sound multipart/form-data.") from problem
            finally:
                receiver.drop()
            await run_in_threadpool(check_contents, upload.folder)
            if not upload.files:
                check_suffix(Path(*upload.left_out[:1]))
                raise Refusal(422, "body: holds no file.")
            entries = [entry.name for entry in upload.folder.iterdir()]
            upload.name = entries[0] if len(entries) == 1 else "upload"
            with self._lock:
                self._known[upload.id] = upload
        except BaseException:
            shutil.rmtree(upload.folder, ignore_errors=True)
            raise
        finally:
            self._coming.pop(upload.id, None)
        return upload

    def find(self, name: str) -> Upload:
        """Return an upload. Raises Refusal (404) if there is none, or no longer."""
        self.forget()
        with self._lock:
            if (upload := self._known.get(name)) is None:
                raise Refusal(404, "upload: there is none of this name, or no longer.")
            return upload

    def all(self) -> list[Upload]:
        """Return all that are kept."""
        with self._lock:
            return list(self._known.values())

    def remove(self, name: str) -> None:
        """Remove an upload. Raises Refusal (404) if there is none."""
        upload = self.find(name)
        with self._lock:
            self._known.pop(name, None)
        shutil.rmtree(upload.folder, ignore_errors=True)

    def forget(self) -> None:
        """Remove what has been kept for a day."""
        with self._lock:
            old = [one for one in self._known.values() if time.monotonic() - one.made > KEPT_UPLOAD]
            for upload in old:
                del self._known[upload.id]
        for upload in old:
            shutil.rmtree(upload.folder, ignore_errors=True)

    def keep(self, name: str, place: Path) -> Path:
        """Copy an upload to `place`, a folder, for a run to be trained on; return its path there.

        Raises:
            Refusal: there is none (404).
        """
        upload = self.find(name)
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copytree(upload.folder, place)
        return place / upload.path.relative_to(upload.folder)


def relative(name: str) -> Path:
    r"""Return the path of an uploaded file below the folder of its upload.

    Raises:
        Refusal: it could lead out of the folder, or is none that every system takes.

    >>> relative("photos/cats/1.png")
    PosixPath('photos/cats/1.png')
    >>> relative("../1.png")
    Traceback (most recent call last):
    undiffuse.web.problems.Refusal: files: a path that is absolute, goes up or has odd ...
    """
    parts = name.split("/")
    odd = any(
        part in ("", ".", "..")
        or not part.isprintable()
        or part != part.strip(" ")
        or any(one in part for one in '\\:*?"<>|~')
        or len(part.encode("utf-8", "surrogatepass")) > LONGEST
        for part in parts
    )
    if odd or len(parts) > DEPTH:
        raise Refusal(
            422, "files: a path that is absolute, goes up or has odd characters is not taken."
        )
    return Path(*parts)


@final
class _Receiver:
    """Writes the files of a multipart body as it comes."""

    def __init__(self, upload: Upload, boundary: bytes) -> None:
        self.upload = upload
        self.file: IO[bytes] | None = None
        self.parts = 0
        self.headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""
        calls: Any = {
            "on_part_begin": self._begin,
            "on_header_field": self._field,
            "on_header_value": self._content,
            "on_header_end": self._header,
            "on_headers_finished": self._open,
            "on_part_data": self._data,
            "on_part_end": self._end,
        }
        self.parser = MultipartParser(boundary, calls)
        self.ended = False

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self.parser.write(chunk)

    def close(self) -> None:
        """Take the end. Raises Refusal if it comes too early."""
        self.parser.finalize()
        if self.file is not None:
            raise Refusal(400, "body: ends within a file.")

    def drop(self) -> None:
        """Close what is open."""
        if self.file is not None:
            self.file.close()

    def _begin(self) -> None:
        self.headers, self._name, self._value = {}, b"", b""

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._check_header()

    def _content(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._name) + len(self._value) > 8192 or len(self.headers) > 16:
            raise Refusal(400, "body: the header of a file is too long.")

    def _header(self) -> None:
        self.headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _open(self) -> None:
        _, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        if b"filename" not in options:
            raise Refusal(422, "body: holds a field that is no file; send files alone.")
        self.parts += 1
        if self.parts > FILES:
            raise Refusal(413, f"files: more than {FILES:,}; put them in one array or table.")
        try:
            name = options[b"filename"].decode("utf-8")
        except UnicodeDecodeError as problem:
            raise Refusal(422, "files: a name is no text in UTF-8.") from problem
        path = relative(name)
        if path.suffix.lower() not in _TAKEN or is_litter(path):
            if not is_litter(path) and len(self.upload.left_out) < LISTED:
                self.upload.left_out.append(str(path))
            self.file = open(os.devnull, "wb")  # noqa: SIM115 - closed at the end of the part
            return
        path = self.upload.folder / path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(path, "xb")  # noqa: SIM115 - closed at the end of the part
        except OSError as problem:
            raise Refusal(422, "files: two have the same path.") from problem
        self.upload.files += 1

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.upload.bytes += end - start
        if self.upload.bytes > UPLOAD:
            raise Refusal(413, f"files: more than {UPLOAD // 2**20:,} MiB in all.")
        assert self.file is not None
        self.file.write(data[start:end])

    def _end(self) -> None:
        assert self.file is not None
        self.file.close()
        self.file = None


def is_litter(path: Path) -> bool:
    """Return whether a system has put a file into a folder, and nobody misses it."""
    return any(part[0] == "." for part in path.parts) or path.name.lower() in LITTER


def check_suffix(path: Path) -> None:
    """Raise Refusal (415) for a file of a kind that is not taken, and say what to do instead."""
    suffix = path.suffix.lower()
    if not path.name or suffix in _TAKEN:
        return
    if suffix in HDF5:
        why = (
            "is not taken: an HDF5 file can name other files of the server; save its array as .npy,"
            " or serve the folder that it is in with --data"
        )
    elif suffix in ARCHIVES:
        why = "is not taken: unpack the archive, and send the folder that was in it"
    else:
        known = "; ".join(f"{kind}: {', '.join(own)}" for kind, own in SUFFIXES.items())
        why = f"ends in none of these: {known}"
    raise Refusal(415, f"{path}: {why}.")


def check_contents(folder: Path) -> None:
    """Raise Refusal for a file in a folder as `check_content` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for path in folder.rglob("*"):
            if path.is_file():
                check_content(path)
                check_grown(path)


def check_content(path: Path) -> None:
    """Raise Refusal for an image of a format that is not taken, or of too many pixels.

    A format is told by what a file holds, whatever its name says.
    """
    try:
        with Image.open(path) as image:
            frames = 1
            with suppress(Exception):
                frames = int(getattr(image, "n_frames", 1))
            pixels, kind = image.width * image.height * frames, image.format
    except Image.DecompressionBombError as problem:
        raise Refusal(413, "files: an image has too many pixels; make it smaller.") from problem
    except Exception:  # no image, or a damaged one: reading says so
        return
    if kind not in PICTURES:
        raise Refusal(415, "files: one is an image of a format that is not taken.")
    if pixels > PIXELS:
        raise Refusal(
            413, f"files: an image has more than {PIXELS // 10**6} million pixels; make it smaller."
        )


def check_grown(path: Path) -> None:
    """Raise Refusal (413) for a table or recording that is far larger in memory than on the disk.

    Archives of arrays are measured where they are read.
    """
    size = 0
    with suppress(Exception):  # of another kind, or damaged: reading says so
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            found = pq.read_metadata(path)
            size = 8 * found.num_rows * found.num_columns
        elif path.suffix.lower() in SUFFIXES["recordings"]:
            import soundfile

            info = soundfile.info(str(path))
            size = 4 * info.frames * info.channels
    if size > UNPACKED:
        raise Refusal(
            413,
            f"{path.name}: takes more than {UNPACKED // 2**20:,} MiB unpacked; make it smaller.",
        )


def clean(text: str, *folders: str | os.PathLike[str]) -> str:
    """Return a sentence without the places of folders, which are nobody's business.

    >>> clean("/srv/runs/a/x.csv: no such file", "/srv/runs")
    'a/x.csv: no such file'
    """
    for folder in folders:
        text = text.replace(f"{os.fspath(folder)}/", "").replace(os.fspath(folder), "data")
    return text
