"""Lets tests say `import gsn` and `import lab` without the repository root on sys.path.

The root holds a folder called `nodes`, and so is ComfyUI's module: with the root on the path, whichever came
first would be taken for both. So the packages are registered one by one from their files.
"""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _register(name):
    init = ROOT / name / "__init__.py"
    if name in sys.modules or not init.exists():
        return
    spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(init.parent)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def pytest_terminal_summary(terminalreporter):
    """What tests measured, whichever process they ran in."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, said in report.user_properties:
            if name == "measured":
                terminalreporter.write_line(said)


for package in ("gsn", "lab"):
    _register(package)
