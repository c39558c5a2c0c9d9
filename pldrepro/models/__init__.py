"""Transformers with gates, and their files, which plain transformers can load: the encoder BERT, the decoder GPT."""
