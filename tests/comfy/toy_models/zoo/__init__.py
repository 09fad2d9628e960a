"""Tiny models, one file per family."""

from . import flux, lumina, others, qwen_image, sd3, unet
from .toy import Toy

FAMILIES = (unet, sd3, flux, lumina, qwen_image, others)
EVERY: dict[str, Toy] = {name: toy for family in FAMILIES for name, toy in family.TOYS.items()}
TOYS = {name: toy for name, toy in EVERY.items() if toy.base is not None}
LACKING = EVERY.keys() - TOYS.keys()  # whose class this ComfyUI does not have
