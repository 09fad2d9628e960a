"""`python -m lab.study`: what dev.py study runs in the virtual environment."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
