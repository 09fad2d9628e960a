"""The pack's own socket types, the outputs that several nodes share, and the menu they all stand in."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "gsn-nodes"
WITHOUT_GRADIENTS = ["attention control", "without gradients", "gguf", "quantised", "missing subject"]  # searched by

Loss = io.Custom("GSN_LOSS")
Trace = io.Custom("GSN_TRACE")
Case = io.Custom("GSN_PROMPT")
Subjects = io.Custom("GSN_SUBJECTS")


def trace_output():
    return Trace.Output(display_name="trace", tooltip="What happened; connect GSNHeatmaps or GSNLossCurve.")


def patch_outputs() -> list:
    """What every MODEL patch gives out: `with_action`'s two values."""
    return [io.Model.Output(), trace_output()]
