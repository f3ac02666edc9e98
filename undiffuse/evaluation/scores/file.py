"""Scores as they come, appended to a file that survives whatever interrupts them.

One line of JSON a batch, after a first line that says what is being scored, and how. A line that was cut short by a
crash is dropped when the file is opened again; what follows is scored anew. Two files with the same first line hold
the same scores, and one may be the beginning of the other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from undiffuse.errors import InputError


@final
class ScoreFile:
    """The scores in `path` of what `identity` (plain data) describes; begun with the first batch.

    Raises InputError if the file holds something else, saying what is different, unless that may be replaced; and if
    it cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], *, replace: bool = False) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(identity))
        self.replace, self.rows = replace, 0
        if path.exists():
            try:
                self._open()
            except OSError as problem:
                reason = problem.strerror or problem
                raise InputError(
                    f"{path}: could not be read: {reason}; remove it, or choose another --out."
                ) from problem

    def append(self, scores: Mapping[str, Any]) -> None:
        """One batch: {"nats", "stderr" (lists), "notes" {place: text}, "kind", "meaning", "evaluations", "seconds"}."""
        try:
            self._write(*([] if self.rows else [self.identity]), scores)
        except OSError as problem:
            raise InputError(
                f"{self.path}: could not be written: {problem.strerror or problem}; "
                "the same command goes on from there once that is mended."
            ) from problem
        self.rows += len(scores["nats"])

    def batches(self) -> Iterator[dict[str, Any]]:
        """What was appended, in order, with "nats" and "stderr" as arrays."""
        with self.path.open(encoding="utf-8") as stream:
            next(stream)
            for line in stream:
                batch = json.loads(line)
                yield batch | {
                    name: np.array(batch[name], dtype=np.float64) for name in ("nats", "stderr")
                }

    def nats(self, count: int) -> np.ndarray:
        """The first `count` scores, or all if there are fewer."""
        parts: list[np.ndarray] = [np.zeros(0)]
        for batch in self.batches() if self.rows else ():
            if sum(map(len, parts)) >= count:
                break
            parts.append(batch["nats"])
        return np.concatenate(parts)[:count]

    def _write(self, *trees: Mapping[str, Any]) -> None:
        lines = "".join(json.dumps(tree) + "\n" for tree in trees).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())

    def _open(self) -> None:
        """Count the rows of whole lines, and cut the file after the last of them."""
        good = 0
        with self.path.open("r+b") as stream:
            for i, line in enumerate(stream):
                try:
                    tree = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    tree = None
                if not isinstance(tree, dict):
                    break
                if i == 0:
                    if not self._is_ours(tree):
                        break
                else:
                    self.rows += len(tree["nats"])
                good += len(line)
            stream.truncate(good if self.rows else 0)

    def _is_ours(self, found: Mapping[str, Any]) -> bool:
        names = [*self.identity, *(name for name in found if name not in self.identity)]
        different = [name for name in names if found.get(name) != self.identity.get(name)]
        if different and not self.replace:
            raise InputError(
                f"{self.path}: holds what another command began ({', '.join(different)} differ); "
                "finish that one, or remove the file."
            )
        return not different
