"""A test-only node pack: tiny models of real families, and a node that keeps what it is given.

Loaded by tests/comfy/conftest.py through ComfyUI's own loader; it is not part of what users install.
"""

from comfy_api.latest import ComfyExtension

from .build import (
    QUANTISED,
    build_clip,
    build_model,
    build_quantised,
    build_transformer,
    build_vae,
    write_checkpoint,
)
from .chain_nodes import COUNTS
from .chain_nodes import NODES as CHAIN_NODES
from .lent import forget_collected, given_back
from .toy_nodes import KEPT, ToyControlNet, ToyKeep, ToyModel, ToyText, ToyTransformer
from .zoo import LACKING, TOYS

__all__ = [
    "COUNTS",
    "KEPT",
    "QUANTISED",
    "LACKING",
    "TOYS",
    "ToyModel",
    "ToyTransformer",
    "build_clip",
    "build_model",
    "build_quantised",
    "build_transformer",
    "build_vae",
    "forget_collected",
    "given_back",
    "write_checkpoint",
]


class ToyExtension(ComfyExtension):
    async def get_node_list(self):
        return [ToyModel, ToyTransformer, ToyText, ToyControlNet, ToyKeep, *CHAIN_NODES]


async def comfy_entrypoint():
    return ToyExtension()
