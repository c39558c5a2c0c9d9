"""Checkpoints as files that plain transformers can load."""
