"""A model call that autograd can go through, whatever ComfyUI did to the weights."""
