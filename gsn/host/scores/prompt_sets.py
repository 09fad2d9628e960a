"""Which prompts GSNPromptSet gives out: a choice in its menu, as a set of prompts."""

from __future__ import annotations

from ...text.prompt_sets import PromptSet, demo_set, paper_set, read_prompts
from .detectors import in_input_folder

DEMO, OWN = "demo models", "my own list"


def chosen_prompts(set: str, split: str = "", count: int = 0, draw: int = 0, file: str = "") -> PromptSet:
    """set: OWN, a kind of the paper, or one of DEMO behind its name and a comma. Raises ValueError, OSError."""
    if set == OWN:
        return read_prompts(in_input_folder(file, "a list of prompts"))
    if set.startswith(DEMO):
        return demo_set(set.removeprefix(f"{DEMO}, "), split, count)
    return paper_set(set, split, count, draw)
