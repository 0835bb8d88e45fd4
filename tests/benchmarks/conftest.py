"""Makes the repository's `benchmarks` importable, which is not installed, without its root on the path."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _load():
    place = ROOT / "benchmarks"
    spec = importlib.util.spec_from_file_location(
        "benchmarks", place / "__init__.py", submodule_search_locations=[str(place)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = module
    spec.loader.exec_module(module)


_load()
