"""WordPiece and byte-level BPE: training, files, fast encoding."""

from __future__ import annotations

END_OF_TEXT = "<|endoftext|>"  # the one special token of a byte-pair tokenizer, as in GPT-2
