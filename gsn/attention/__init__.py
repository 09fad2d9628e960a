"""Attention maps as data: their shapes, masks of them, which blocks they come from, edits of logits."""
