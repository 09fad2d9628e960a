"""A patch before our node or after it, and what is checked of a refinement beside it."""

from dataclasses import dataclass, field
from functools import partial

import torch

from .. import zoo_graphs as zoo
from ..graphs import refine, samples, sd15_graph
from ..zoo_names import NAMES

STEPS = 2  # one before the refinement, one that it is of; more where a patch remembers
REFINE = refine(step=1, iterations=2)
OFF = [refine(step=1, iterations=0), refine(step=1, iterations=2, lr=0.0)]
graph = partial(sd15_graph, steps=STEPS)


@dataclass(frozen=True)
class Patch:
    """A node MODEL -> MODEL. inside: it acts within the network, so the loss must be another one with it."""

    kind: str
    inputs: dict = field(default_factory=dict)
    family: str = "sd15"
    inside: bool = False
    more: dict = field(default_factory=dict)  # other nodes it needs
    sampler: dict = field(default_factory=dict)
    batch: int = 2
    socket: str = "model"

    def __str__(self):
        return f"{self.inputs['kind'] if self.kind == 'ToyPatch' else self.kind}-{self.family}"


def toy(kind, family="sd15", inside=True, **more):
    return Patch("ToyPatch", {"kind": kind}, family, inside, **more)


WITH_TEXT = ("sd15", "sd_xs", "sdxl", "sd3")  # toys that have a text encoder


def bare(patch, ours=()):
    settings = {"steps": STEPS} | patch.sampler
    if patch.family in NAMES and patch.family not in WITH_TEXT:
        nodes = zoo.graph(patch.family, list(ours))
        nodes["out"]["inputs"] |= settings
        nodes["4"]["inputs"] |= {"width": 160, "height": 96}
    else:
        nodes = graph(list(ours), family=patch.family, **settings)
    nodes["4"]["inputs"]["batch_size"] = patch.batch
    return nodes


def chained(patch, ours=(), first=True):
    """The patch before our node, or after it."""
    nodes = bare(patch, ours) | patch.more
    nodes["x"] = {"class_type": patch.kind, "inputs": {patch.socket: ["1", 0], **patch.inputs}}
    if first and ours:
        nodes["p0"]["inputs"]["model"] = ["x", 0]
    else:
        nodes["x"]["inputs"][patch.socket] = nodes["out"]["inputs"]["model"]
        nodes["out"]["inputs"]["model"] = ["x", 0]
    return nodes


def checked(session, nodes, plain):
    """The refined latent, proven to be a real refinement."""
    result = session.run(nodes, ["out", ("p0", 1)])
    records = result.check()["p0", 1].trace.records
    assert all(after < before for before, after in zip(records[0].loss, records[-1].loss, strict=True))
    assert min(records[-1].update_rms) > 0
    assert all(not torch.equal(samples(result)[i], plain[i]) for i in range(len(plain)))
    return samples(result)


def node(nodes, key, kind, **inputs):
    nodes[key] = {"class_type": kind, "inputs": inputs}
    return [key, 0]


def prompt(nodes, key, text, subjects=""):
    nodes[key] = {"class_type": "GSNSubjects", "inputs": {"clip": ["1", 1], "text": text, "subjects": subjects}}
    return [key, 0]


def positive(nodes, wire):
    nodes["out"]["inputs"]["positive"] = wire
    return nodes
