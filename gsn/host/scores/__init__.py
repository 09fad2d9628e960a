"""Detectors and scoring models inside ComfyUI."""
