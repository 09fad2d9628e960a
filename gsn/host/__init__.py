"""The only room that knows ComfyUI's insides. Inside it: scores, sampling, attention, gradient, families."""
