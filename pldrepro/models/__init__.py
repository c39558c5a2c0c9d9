"""The Transformer encoder with gates (``bert``) and its files, which plain transformers can load."""
