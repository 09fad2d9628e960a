"""Tiny models, one file per family."""

from . import flux, lumina, others, qwen_image, sd3, unet
from .toy import Toy

FAMILIES = (unet, sd3, flux, lumina, qwen_image, others)
TOYS: dict[str, Toy] = {name: toy for family in FAMILIES for name, toy in family.TOYS.items()}
