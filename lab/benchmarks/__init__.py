"""Measurements against named peers, and counts; run from this folder, as `dev.py bench` does."""
