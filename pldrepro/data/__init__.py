"""Text and GLUE: from a source to token arrays. No torch here."""


class DataError(ValueError):
    """Data that cannot be used; the message names the file and row and says what is allowed."""
