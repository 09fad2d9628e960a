"""What may happen at a step: a file each, which describes itself (intervention.py). They know no ComfyUI.

A new one is a file here and its name in FILES.
"""

from importlib import import_module

from .intervention import Intervention, interventions_of

# In this order they stand in messages; when they act is said in each.
FILES = (
    "distribution",
    "init_noise",
    "refine",
    "guide",
    "temperature",
    "reweight",
    "observe",
    "block_probe",
)
INTERVENTIONS: dict[str, type[Intervention]] = {
    name: one for file in FILES for name, one in interventions_of(import_module(f".{file}", __name__)).items()
}
