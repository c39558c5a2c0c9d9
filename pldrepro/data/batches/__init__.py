"""Batches as functions of (seed, step): masked and causal language modelling, images."""
