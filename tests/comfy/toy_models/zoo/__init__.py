"""Tiny transformers, one file per family."""

from . import flux, sd3
from .toy import Toy

TOYS: dict[str, Toy] = {name: toy for family in (sd3, flux) for name, toy in family.TOYS.items()}
