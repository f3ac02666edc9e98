"""Print what the development environment holds: the requirements in pyproject.toml, but for a few
extras; or those of the dependency groups and extras that are named.

pip reads dependency groups only from version 25.1 on, and Debian ships an older one: so they are
read here.
"""

import sys
import tomllib
from pathlib import Path

# 400 MB of sampling on many machines, clients of object stores, dashboards that need an account or
# a server, a library of models, and all at once
LEFT_OUT = {"cluster", "remote", "wandb", "mlflow", "diffusers", "all"}

root = Path(__file__).parent.parent
tables = tomllib.loads((root / "pyproject.toml").read_text())
project = tables["project"]
if names := sys.argv[1:]:
    named = {**project["optional-dependencies"], **tables["dependency-groups"]}
    wanted = [one for name in names for one in named[name]]
else:
    wanted = (
        tables["build-system"]["requires"]
        + project["dependencies"]
        + tables["dependency-groups"]["dev"]
    )
    for extra, requirements in project["optional-dependencies"].items():
        if extra not in LEFT_OUT:
            wanted += requirements
print("\n".join(wanted))
