"""What ComfyUI shows: schemas and wiring, no maths; every module lists its NODES."""
