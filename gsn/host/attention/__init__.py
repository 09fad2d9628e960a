"""Attention maps out of a model call, and edits of attention into ordinary calls."""
