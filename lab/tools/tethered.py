"""Runs a Python program that ends when the process that started it ends, even one that was killed.

`python tethered.py PROGRAM ARGUMENTS...`, with a pipe as its standard input: whoever holds the other end is waited
for in a thread, and what is read there is nothing but its end.
"""

import os
import runpy
import sys
import threading


def _wait_for_the_end():
    while os.read(0, 65536):  # not sys.stdin, whose lock an ending Python waits for
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_wait_for_the_end, daemon=True).start()
    program = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(program))
    runpy.run_path(program, run_name="__main__")
