"""A measurement that depends on a fresh process runs in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# The function's result goes through a file, so what it prints is seen at once.
CODE = """
import importlib, json, pathlib, sys
path, module, function, arguments = sys.argv[1:]
found = getattr(importlib.import_module(f"bench.{module}"), function)(*json.loads(arguments))
pathlib.Path(path).write_text(json.dumps(found), encoding="utf-8")
"""


def call(function: str, *arguments: Any, folder: Path | None = None, **variables: str) -> Any:
    """Call a function of this package in a new process, and return its result.

    function: the module and the function, such as "first.first_calls"; folder: the folder with the
        bench and minigrad that the process imports (default: the current folder); variables:
        additional environment variables. Arguments and results are values for JSON.
    """
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "result.json")
        given = [str(path), *function.split("."), json.dumps(arguments)]
        subprocess.run(
            [sys.executable, "-c", CODE, *given],
            cwd=folder,
            env={**os.environ, **variables},
            check=True,
        )
        return json.loads(path.read_text(encoding="utf-8"))
