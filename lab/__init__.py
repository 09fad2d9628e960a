"""What makes and measures the pack; an artist's ComfyUI needs none of it."""
