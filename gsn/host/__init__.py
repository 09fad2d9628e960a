"""The only room that imports ComfyUI. Inside it: scores, sampling, attention, gradient, families."""
