"""Tables written by what is not undiffuse, in every format that it reads."""

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq


def _cells(table, path):
    with path.open("wb") as stream:
        options = csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
        csv.write_csv(table, stream, options)


def _lines(table, path):
    path.write_text("".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist()))


def _parquet(table, path):
    with path.open("wb") as stream:
        pq.write_table(table, stream)


def _workbook(table, path):
    import openpyxl

    book = openpyxl.Workbook()
    for row in (table.column_names, *(row.values() for row in table.to_pylist())):
        book.active.append([*row])
    book.save(path)


WRITERS = {
    ".csv": _cells,
    ".tsv": _cells,
    ".jsonl": _lines,
    ".ndjson": _lines,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".xlsx": _workbook,
    ".xlsm": _workbook,
}


def zstd(content):
    return pa.compress(content, codec="zstd", asbytes=True)


PACKERS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def write(table, path, packing=""):
    """Write a table by the suffix of a path, and return the path of the file, packed or not."""
    WRITERS[path.suffix](table, path)
    if not packing:
        return path
    packed = path.with_name(path.name + packing)
    packed.write_bytes(PACKERS[packing](path.read_bytes()))
    path.unlink()
    return packed
