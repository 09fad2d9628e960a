"""What attention maps should look like: a file for each paper's losses, which describe themselves (loss.py).

A new one is a file here and its name in FILES.
"""

from importlib import import_module

from .loss import Loss, losses_of

# In this order they stand in menus and messages.
FILES = (
    "attend_excite",
    "iou",
    "syngen",
    "divide_bind",
    "boxdiff",
    "initno",
    "astar",
    "box_retention",
    "focus",
    "conform",
    "self_cross",
)
LOSSES: dict[str, Loss] = {
    name: one for file in FILES for name, one in losses_of(import_module(f".{file}", __name__)).items()
}
