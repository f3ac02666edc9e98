"""Images and arrays in Parquet files, a row each: as they are written, and as others write them.

    image   a struct of `bytes`, a PNG or TIFF file, and `path`, as in Hugging Face's data sets
    row     a tensor of a fixed shape, Arrow's own type for that
    label   the class, where there are some

What is read is the first such column of a file, whatever it is called, or one of bytes alone that
is called as an image is, and a column called label, cls or class. Names of classes, and that a
column holds something else than images, are taken from what Hugging Face keeps beside the schema.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from undiffuse.atomic import atomic_file
from undiffuse.errors import InputError
from undiffuse.interfaces import WriteRows

LABELS = ("label", "cls", "class")
"""What the class of a sample is called, in this order."""
_IMAGES = ("image", "img", "jpeg", "jpg", "photo", "picture", "png")
"""What a column of bytes is called that are image files; others are hashes, keys, and the like."""
_HUGGING_FACE = b"huggingface"  # the key of its metadata
GROUP = 2**23  # bytes written together to a Parquet file


def need_pyarrow(purpose: str) -> None:
    """Raise InputError naming the extra, if pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as problem:
        raise InputError(f"{purpose} needs pyarrow; pip install 'undiffuse[tables]'.") from problem


@final
@dataclass(frozen=True)
class CellColumns:
    """Which columns of a Parquet file are images or arrays, and their classes.

    Args:
        column: the name of that column.
        images: whether it holds images.
        label: the column of the classes; "" without.
        classes: names of classes that are numbers in the file; () where they are not.
        others: the names of all other columns, which are left out.
    """

    column: str
    images: bool
    label: str
    classes: tuple[str, ...]
    others: tuple[str, ...]

    @staticmethod
    def of(schema: Any) -> CellColumns | None:
        """Return those of an Arrow schema; None for a table of numbers and text."""
        import pyarrow as pa

        features = _features_of(schema.metadata or {})
        kinds = {one.name: _kind(one, features.get(one.name)) for one in schema}
        column = next((name for name, kind in kinds.items() if kind is not None), None)
        if column is None:
            return None
        names = set(schema.names)
        label = next((name for name in LABELS if name in names and name != column), "")
        classes: Sequence[str] = ()
        if label and pa.types.is_integer(schema.field(label).type):
            classes = (features.get(label) or {}).get("names") or ()
        others = tuple(name for name in schema.names if name not in (column, label))
        return CellColumns(column, kinds[column] == "image", label, tuple(classes), others)

    def labels(self, table: Any) -> list[str]:
        """Return the class of each row of a table as text; "" for none."""
        if not self.label:
            return [""] * len(table)
        found = table.column(self.label).to_pylist()
        return ["" if one is None else self._named(one) for one in found]

    def contents(self, table: Any) -> Iterator[bytes]:
        """Yield each row of a table as a file: an image, or an array as .npy; b"" for none."""
        import pyarrow as pa

        column = table.column(self.column).combine_chunks()
        if not self.images:
            if pa.types.is_boolean(column.type.value_type):  # of which Arrow makes no tensor
                values = column.storage.flatten().to_numpy(zero_copy_only=False)
                rows = values.reshape(len(column), *column.type.shape)
            else:
                rows = column.to_numpy_ndarray()
            for row in rows:
                stream = io.BytesIO()
                np.save(stream, row, allow_pickle=False)
                yield stream.getvalue()
            return
        for cell in column.to_pylist():
            content = cell.get("bytes") if isinstance(cell, dict) else cell
            yield content or b""

    def _named(self, one: Any) -> str:
        known = isinstance(one, int) and 0 <= one < len(self.classes)
        return self.classes[one] if known else str(one)


def _kind(field: Any, feature: Mapping[str, Any] | None) -> str | None:
    """Whether a column of Arrow holds an "image" or an "array" in each row; None for neither.

    `feature` is what Hugging Face says of it.
    """
    import pyarrow as pa

    type_ = field.type
    if isinstance(type_, pa.FixedShapeTensorType):
        return "array"
    named = field.name.lower() in _IMAGES
    if pa.types.is_struct(type_) and type_.get_field_index("bytes") >= 0:
        named = (feature or {}).get("_type", "Image") == "Image"
        type_ = type_.field("bytes").type
    file = pa.types.is_binary(type_) or pa.types.is_large_binary(type_)
    return "image" if named and file else None


def _features_of(metadata: Mapping[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """What Hugging Face keeps of the columns; {} where it has kept nothing, or is damaged."""
    try:
        found = json.loads(metadata[_HUGGING_FACE])["info"]["features"]
        return {name: one for name, one in found.items() if isinstance(one, dict)}
    except (LookupError, TypeError, ValueError, AttributeError):
        return {}


@contextmanager
def parquet_file(path: Path, delimiter: str = "") -> Iterator[Callable[[Any], None]]:
    """Give what takes tables of Arrow, one after another, and writes them to a Parquet file.

    `delimiter` is for writers of text.
    """
    import pyarrow as pa
    from pyarrow import parquet

    with ExitStack() as leaving:
        stream = leaving.enter_context(path.open("wb"))
        writer, waiting = None, []

        def flush() -> None:
            nonlocal writer
            group = pa.concat_tables(waiting).combine_chunks()
            if writer is None:
                writer = leaving.enter_context(parquet.ParquetWriter(stream, group.schema))
            writer.write_table(group)
            waiting.clear()

        def write(table: Any) -> None:
            waiting.append(table)
            if sum(one.nbytes for one in waiting) >= GROUP:
                flush()

        yield write
        if waiting:
            flush()


@contextmanager
def cells_writer(
    encode: Callable[[np.ndarray], Iterator[bytes]] | None, suffix: str, out: Path, first: int
) -> Iterator[WriteRows]:
    """Give what writes rows to a Parquet file.

    Args:
        encode: makes an image file of each row; None: rows are tensors.
        suffix: of such image files.
        out: the file, which appears once it is left.
        first: the number of the first row, for the names of images.

    Raises:
        InputError: without pyarrow.
    """
    need_pyarrow("writing rows to Parquet")
    import pyarrow as pa

    next_one = first
    with atomic_file(out) as temporary, parquet_file(temporary) as write_table:

        def write(rows: np.ndarray, labels: Any = None) -> None:
            nonlocal next_one
            if encode is None:
                tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(rows))
                columns: dict[str, Any] = {"row": tensors}
            else:
                files = [
                    {"bytes": content, "path": f"{next_one + i:05d}{suffix}"}
                    for i, content in enumerate(encode(rows))
                ]
                kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
                columns = {"image": pa.array(files, kind)}
            if labels is not None:
                columns["label"] = pa.array([str(one) for one in labels], pa.string())
            next_one += len(rows)
            table = pa.table(columns)
            write_table(table.replace_schema_metadata(_features(table.column_names)))

        yield write


def _features(names: Sequence[str]) -> dict[bytes, bytes] | None:
    """What tells Hugging Face's library that a column holds images."""
    if "image" not in names:
        return None
    kinds = {"image": {"_type": "Image"}, "label": {"dtype": "string", "_type": "Value"}}
    features = {name: kinds[name] for name in names}
    return {_HUGGING_FACE: json.dumps({"info": {"features": features}}).encode()}
