"""What a request may ask for at most: a service must not be brought down by one of its users."""

from __future__ import annotations

MEBI = 2**20

BODY = 1 * MEBI  # bytes of a request, an upload left out
UPLOAD = 2048 * MEBI  # bytes of one upload
FILES = 50_000  # of one upload
UNPACKED = 2 * UPLOAD  # bytes in memory of an uploaded table or recording
PIXELS = 64 * 10**6  # of one uploaded image
UPLOADS = 8 * UPLOAD  # bytes of all uploads that are kept
KEPT_UPLOAD = 24 * 3600.0  # seconds, of an upload
KEPT_RESULT = 3600.0  # seconds, of a result
RESULTS = 4096 * MEBI  # bytes of all results that are kept

SAMPLES = 100_000  # drawn at once
PASSES = 1000  # of a network for each row
BATCH = 4096  # rows computed at once
STEPS = 10_000_000  # of a training
BUDGET = 7 * 24 * 3600.0  # seconds of a training
TRAINED_BATCH = 65_536  # rows in a step of a training
COMPARED = 12  # runs in one comparison
SIZES = {
    "width": 2048,
    "depth": 64,
    "patch": 64,
    "multipliers": 32,
    "blocks": 16,
    "attention": 16,
    "head_width": 1024,
    "heads": 128,
    "octaves": 64,
    "dropout": 1,
    "scales": 16,
    "transforms": 64,
    "bins": 1024,
}
"""The largest value of each dimension of a network."""

WATCHERS = 64  # streams of events that are open at once
LISTED = 1000  # classes, entries of a folder, options of a column in an answer
OPENED = 8  # models that are kept open
LINE = 1 * MEBI  # bytes of a line of a log that is sent on
