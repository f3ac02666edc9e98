"""Images: folders of image files. Arrays of images are of this kind once `arrays` has read them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from undiffuse.data.arranged import arrange
from undiffuse.data.arrays.kind import Beside, FolderKind
from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.data.conformed import Conformed, Problem, Taken
from undiffuse.data.decoding import Unreadable, decode_once, for_each, unreadable
from undiffuse.data.folder import Folder
from undiffuse.data.images.decode import (
    ImageHeader,
    PixelFormat,
    image_suffixes,
    plan_images,
    read_image,
    read_image_header,
    read_with_alpha,
)
from undiffuse.data.images.files import model_images, pixels_of, rescaling
from undiffuse.data.images.form import ImageForm, ScanForm
from undiffuse.data.images.maps import map_in, maps_beside, without
from undiffuse.data.labels import index_labels
from undiffuse.data.load import recorded_reading
from undiffuse.data.maps import GivenMap, is_map, names_of, with_maps
from undiffuse.data.pictures import to_bytes
from undiffuse.data.rows import ArrayRows, Loaded
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, Progress
from undiffuse.options import AS_IT_IS, ReadingOptions

_AHEAD = 64  # images that wait in memory


@final
class ImageKind(FolderKind):
    """Images: see `Kind`."""

    name = "images"
    takes = ("size", "labels", "condition")
    parts: ClassVar[Mapping[str, type]] = {
        "transform": ArrayTransform,
        "form": ImageForm,
        "scan": ScanForm,
    }

    def mirror_axis(self, transform: ArrayTransform) -> int:
        """That of the width."""
        return -2 if transform.axes.endswith("C") else -1

    @property
    def folder_suffixes(self) -> Collection[str]:
        """The suffixes of all image formats that this Pillow reads."""
        return image_suffixes()

    def read(
        self,
        source: Any,
        *,
        reading: ReadingOptions = AS_IT_IS,
        progress: Progress | None = None,
    ) -> Loaded:
        """Return a folder of images as rows (H, W) or (H, W, C) of uint8, or (H, W) of more bits.

        Classes and parts are as `arrange` finds them; a file of several pages or frames gives a row
        for each.

        Args:
            source: the `Folder`.
            reading: `size`, the longer side, or height and width, in pixels; `plan_images` has the
                default; `labels` and `condition`, as for `arrange`.
            progress: called after each file.

        Raises:
            InputError: more than a few of the files, or all of them, cannot be read.
        """
        places = [Path(one) for one in reading.condition or () if is_map(one)]
        arranged = arrange(without(source, places), reading.labels, names_of(reading.condition))
        folder = arranged.folder
        frames: dict[Path, Sequence[int]] = {}

        def plan(headers: Mapping[int, ImageHeader]) -> tuple[PixelFormat, list[str]]:
            frames.update({folder.files[i]: header.frames for i, header in headers.items()})
            return plan_images(folder.name, folder.files, headers, reading.size)

        decoded = decode_once(
            folder,
            read_image_header,
            plan,
            lambda path, target: read_image(path, target, frames[path]),
            key=str(reading.size),
            ahead=_AHEAD,
            progress=progress,
        )
        pixels = decoded.values
        rows = ArrayRows(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        files = np.repeat(decoded.kept, decoded.lengths)  # that each row is of
        index, names = index_labels(arranged.classes_of(files), len(rows), folder.name)
        row_shape, dtype = rows.array.shape[1:], pixels.dtype.name
        form, make_transform = model_images(rows, folder.name)
        size = pixels.shape[1:3]
        maps = [map_in(place, folder, files, size, progress) for place in places]
        content = arranged.fingerprint(folder.fingerprint(progress))
        return Loaded(
            kind=self.name,
            rows=rows,
            form=form,
            make_transform=make_transform,
            name=folder.name,
            path=str(folder.path),
            fingerprint=with_maps(content, [one for one, _ in maps]),
            labels=index,
            classes=names,
            groups=files if len(rows) > len(decoded.kept) else None,
            given=arranged.given_of(files),
            maps=tuple(one for one, _ in maps),
            parts=arranged.parts_of(files),
            notes=(
                *folder.unread,
                *arranged.notes,
                *decoded.notes,
                *(note for _, notes in maps for note in notes),
            ),
            facts={"images": len(rows), "row_shape": list(row_shape), "dtype": dtype},
        )

    def maps_of(
        self,
        folder: Folder,
        transform: ArrayTransform,
        config: Mapping[str, Any],
        progress: Progress | None,
    ) -> tuple[Folder, tuple[GivenMap, ...], tuple[str, ...]]:
        """Return the files that are rows, the maps that lie with them, and notes on these.

        A map lies with a folder as the run's own lie with theirs.
        """
        condition = recorded_reading(config).condition or ()
        named = [Path(one) for one in condition if is_map(one)]
        places = maps_beside(folder.path, config.get("path"), named)
        folder = without(folder, places)
        files, size, maps, notes = np.arange(len(folder.files)), transform.row_shape[:2], [], []
        for place in places:
            one, more = map_in(place, folder, files, (size[0], size[1]), progress)
            maps.append(one)
            notes += [f"condition {one.name}: is taken from {place}.", *more]
        return folder, tuple(maps), tuple(notes)

    def conform_folder(
        self,
        folder: Folder,
        transform: ArrayTransform,
        form: ImageForm | ScanForm,
        beside: Beside,
        progress: Progress | None,
    ) -> Conformed:
        """Return the images of a folder as rows of a run, decoded when their batch is asked for."""
        rows = _ImageFiles(folder, form, progress)
        called, several = folder.called, len(rows.frames) > len(folder.files)
        return Conformed(
            rows,
            [f"{called[file]}#{frame}" if frame else called[file] for file, frame in rows.frames],
            name=folder.name,
            **beside.of(np.array([file for file, _ in rows.frames])),
            groups=np.array([file for file, _ in rows.frames]) if several else None,
            notes=(*beside.notes, *rows.changes),
        )

    def complete_folder(
        self, folder: Folder, transform: ArrayTransform, form: ImageForm | ScanForm
    ) -> PartialRows:
        """Return images with transparent pixels (alpha 0) as rows of which these are unknown."""
        scans = isinstance(form, ScanForm)
        if scans or form.size[2] not in (1, 3) or form.dtype != "uint8":
            raise InputError(
                f"{folder.name}: the run's images are not 8-bit grey or RGB; "
                "give .npy, with NaN for unknown."
            )
        height, width, channels = form.size
        rows, known, other_kind, rounded = [], [], 0, 0
        for file in folder.files:
            try:
                header = read_image_header(file)
                pixels, alpha = read_with_alpha(file, grey=channels == 1)
            except Unreadable as problem:
                raise InputError(
                    f"{file.name}: could not be read as an image; repair or remove it."
                ) from problem
            if len(header.frames) > 1:
                raise InputError(
                    f"{file.name}: holds {len(header.frames):,} pages or frames; give the one to "
                    "complete as a file of its own."
                )
            if pixels.shape[:2] != (height, width):
                raise InputError(
                    f"{file.name}: is {pixels.shape[0]} x {pixels.shape[1]} (height x width), "
                    f"and the run's images are {height} x {width}; resize it."
                )
            other_kind += header.deep or header.colour != (channels == 3)
            values = pixels
            if not form.from_files:
                values = np.rint(pixels / 255 * (form.levels - 1)).astype(form.dtype)
                kept = to_bytes(values, 0, form.levels - 1) == pixels
                rounded += not kept[alpha[..., 0] > 0].all()
            elif values[alpha[..., 0] > 0].max(initial=0) >= form.levels:
                raise InputError(
                    f"{file.name}: has values up to {values.max()}, and the run's images "
                    f"{form.levels - 1}; correct it."
                )
            rows.append(form.as_row(values))
            known.append(form.as_row(np.repeat(alpha > 0, channels, axis=2)))
        changes = {
            "turned into the run's kind of pixels": other_kind,
            f"rounded to the run's {form.levels} levels": rounded,
        }
        total = len(folder.files)
        notes = _counted(folder.content, total, changes)
        return PartialRows(np.stack(rows), np.stack(known), notes)


@final
class _ImageFiles:
    """Image files as rows of a run; one that cannot be read costs one row.

    Attributes:
        frames: (position of the file, page or frame in it) of each row.
        changes: a sentence on each change to the files.

    Raises InputError if no image file holds rows of this form, or none can be read.
    """

    def __init__(
        self, folder: Folder, form: ImageForm | ScanForm, progress: Progress | None
    ) -> None:
        self.folder, self.form = folder, form
        self.target = pixels_of(form, folder.name)
        self.frames: list[tuple[int, int]] = []
        self.changes = self._look(progress)

    def take(self, indices: np.ndarray) -> Taken:
        """Return the images at these positions; an unreadable one is black and has a problem."""
        rows = np.zeros((len(indices), *self.form.row_shape), self.form.dtype)
        problems: dict[int, Problem] = {}
        wanted = [self.frames[i] for i in indices]

        def read(place: tuple[int, int]) -> np.ndarray:
            return read_image(self.folder.files[place[0]], self.target, place[1:])[0]

        for i, pixels in for_each(wanted, read, ahead=_AHEAD):
            if isinstance(pixels, Unreadable):
                problems[i] = Problem.unreadable(str(pixels))
            elif isinstance(self.form, ScanForm):
                rows[i] = pixels[..., 0]
            elif (values := self.form.of_files(pixels)).max() >= self.form.levels:
                most = self.form.levels - 1
                reason = f"has values up to {values.max():,}, and the training data up to {most:,}"
                problems[i] = Problem(-math.inf, reason)
            else:
                rows[i] = self.form.as_row(values)
        return rows, problems

    def _look(self, progress: Progress | None) -> tuple[str, ...]:
        """Find the frames of every file, and return a sentence on each change to the files."""
        other_size, other_kind = 0, 0
        failed: dict[int, Unreadable] = {}
        folder, target = self.folder, self.target
        looking = f"looking at {folder.name}"
        for i, header in for_each(
            folder.files, read_image_header, ahead=_AHEAD, progress=progress, what=looking
        ):
            if isinstance(header, Unreadable):
                failed[i] = header
                self.frames.append((i, 0))
                continue
            self.frames += [(i, frame) for frame in header.frames]
            other_size += (header.height, header.width) != (target.height, target.width)
            deep = target.deep or target.wide != ""
            other_kind += (header.colour, header.deep) != (target.channels > 2, deep)
        if len(failed) == len(folder.files):
            raise InputError(f"{unreadable(folder, failed)}; repair or remove them.")
        size = f"{target.height} x {target.width} (height x width)"
        changes = {
            f"resized and centre-cropped to the run's {size}": other_size,
            "turned into the run's kind of pixels": other_kind,
        }
        notes = _counted(folder.name, len(folder.files), changes)
        return (*notes, *rescaling(self.form, folder.name))


def _counted(name: str, total: int, changes: Mapping[str, int]) -> tuple[str, ...]:
    """Return a sentence on each change, with the number of images that it was made to."""
    return tuple(
        f"{name}: {count:,} of {total:,} images are {change}."
        for change, count in changes.items()
        if count
    )
