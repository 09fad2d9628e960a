#!/usr/bin/env python3
"""One command for everything: python dev.py demo | test | serve | bench | study | support | train.

Needs nothing but Python 3.10 or newer. The first run makes .venv/ and .comfyui/ beside this file; later runs
reuse them. Results go to stdout, everything else to stderr.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036  (an older Python gets as far as this line, and should be told)
    sys.exit(f"gsn-nodes needs Python 3.10 or newer; {sys.executable} is {sys.version.split()[0]}")

from lab.tools.cli import main

if __name__ == "__main__":
    sys.exit(main())
