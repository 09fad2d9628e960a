"""Tiny transformers, one file per family."""

from . import flux, lumina, qwen_image, sd3
from .toy import Toy

TOYS: dict[str, Toy] = {name: toy for family in (sd3, flux, lumina, qwen_image) for name, toy in family.TOYS.items()}
