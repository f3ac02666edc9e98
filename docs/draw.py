"""Draw the pictures of docs/systems from the library, with exact denoisers: `python docs/draw.py
[name ...]`.

Without names all of them, in about a minute; each is a PNG beside the page that shows it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from drawing import panels, systems, topics

FOLDER = Path(__file__).parent / "systems"
PICTURES = {**systems.PICTURES, **topics.PICTURES}


def main(names: list[str]) -> None:
    if unknown := [name for name in names if name not in PICTURES]:
        sys.exit(f"no such picture: {', '.join(unknown)}; there are {', '.join(PICTURES)}.")
    for name in names or PICTURES:
        path = FOLDER / f"{name}.png"
        print(f"{path.name}: {panels.save(PICTURES[name](), path) / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
