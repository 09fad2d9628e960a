"""Prompt sets and the study tool: what is asked of a model, over and over, and how the answers are counted."""
