"""Print what the development environment holds: all requirements in pyproject.toml but the extra
`cluster`.

pip reads dependency groups only from version 25.1 on, and Debian ships an older one: so they are
read here.
"""

import tomllib
from pathlib import Path

LEFT_OUT = {"cluster", "all"}  # sampling on many machines: 400 MB that nobody needs on one

root = Path(__file__).parent.parent
tables = tomllib.loads((root / "pyproject.toml").read_text())
project = tables["project"]
wanted = (
    tables["build-system"]["requires"]
    + project["dependencies"]
    + tables["dependency-groups"]["dev"]
)
for extra, requirements in project["optional-dependencies"].items():
    if extra not in LEFT_OUT:
        wanted += requirements
print("\n".join(wanted))
