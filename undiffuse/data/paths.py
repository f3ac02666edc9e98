"""What the name of a file says of its content, and names of one part of a file.

table.csv.gz            the suffix is that of what is compressed: .csv
file.h5:/group/name     a data set of an HDF5 file
file.xlsx:Sheet         a sheet of a workbook
"""

from __future__ import annotations

import re
from pathlib import Path

from undiffuse.reading import printable

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Of files of text, which may be compressed."""
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
HDF5_SUFFIXES = (".h5", ".hdf5")
WORKBOOK_SUFFIXES = (".xlsx", ".xlsm")

_WITH_PART = re.compile(
    rf"(.*(?:{'|'.join(map(re.escape, HDF5_SUFFIXES + WORKBOOK_SUFFIXES))})):(.+)", re.I | re.S
)


def suffix_of(path: Path) -> str:
    """Return the suffix that says what a file holds, in lower case.

    >>> suffix_of(Path("a.PNG")), suffix_of(Path("a.csv.gz")), suffix_of(Path("a.h5:/b/c"))
    ('.png', '.csv', '.h5')
    """
    path = split_part(path)[0]
    suffix, inner = path.suffix.lower(), Path(path.stem).suffix.lower()
    return inner if suffix in COMPRESSED and inner in TEXT_SUFFIXES else suffix


def split_part(path: Path) -> tuple[Path, str]:
    """Return the file, and the part of it that the path names; "" if it names none.

    >>> split_part(Path("a.xlsx:Sheet 2"))[1], split_part(Path("a.csv"))[1]
    ('Sheet 2', '')
    """
    named = _WITH_PART.fullmatch(str(path))
    return (path, "") if named is None or path.exists() else (Path(named[1]), named[2])


def name_of(path: Path) -> str:
    """Return what a file, or the part of it that is named, is called in messages.

    >>> name_of(Path("photos/a.h5:/b/c"))
    'a.h5:/b/c'
    """
    file, part = split_part(path)
    return printable(f"{file.name}:{part}" if part else file.name)
