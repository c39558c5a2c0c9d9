"""Text and GLUE: from a source to token arrays. No torch here."""

END_OF_TEXT = "<|endoftext|>"  # the one special token of a byte-pair tokenizer, as in GPT-2


class DataError(ValueError):
    """Data that cannot be used; the message names the file and row and says what is allowed."""
