"""The `undiffuse` script, and `python -m undiffuse`: from its first lines on it can be interrupted.

Only this module handles signals as it is imported, and nothing but those two imports it.
"""

# What `signal` is made of, without enumerations that take longer to make than all before them.
import _signal  # pyright: ignore[reportMissingImports]
import os


def _leave(number: int, frame: object) -> None:
    """End the process with one sentence: nothing has been read or written yet."""
    os.write(2, b"interrupted.\n")
    os._exit(130)


for _number in (_signal.SIGINT, _signal.SIGTERM):
    _signal.signal(_number, _leave)

from undiffuse.cli.main import run  # noqa: E402 - once signals are handled

if __name__ == "__main__":
    run()
