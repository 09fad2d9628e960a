"""A rate over the run: constant, or falling as Attend-and-Excite's (Chefer et al. 2023, released constants).

eta_i = size * sqrt(linspace(1, 0.5, T)[i]),   T = all steps of the run
"""

from __future__ import annotations

import math

import torch

from .context import Context

SCHEDULES = {"sqrt": "falling to 0.71 of it over the run", "constant": "constant"}  # name -> in words


def check_schedule(name: str) -> None:
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule '{name}'; use one of {', '.join(SCHEDULES)}")


def check_rate(lr: float, momentum: float = 0.0) -> None:
    """Raise ValueError for what no optimiser can take."""
    if not math.isfinite(lr) or lr < 0:
        raise ValueError(f"lr is {lr}; give a finite number, 0 or more")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; give 0 or more, and less than 1")


def scheduled(size: float, name: str, context: Context) -> float:
    """The rate at the context's step."""
    if name == "constant":
        return size
    return size * math.sqrt(float(torch.linspace(1.0, 0.5, context.total_steps)[context.step.index]))
