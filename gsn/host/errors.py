"""A refusal that a person can act on, and how the pure rooms' checks become one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class GsnError(ValueError):
    """The message opens with the node that has to change."""


def named(origin: str, check: Callable, *args: Any) -> Any:
    """Run a check of the pure rooms; a refusal gets the node's name in front."""
    try:
        return check(*args)
    except ValueError as error:
        raise GsnError(f"{origin}: {error}") from None
