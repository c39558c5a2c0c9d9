"""A few sentences to train tokenizers on, which a process started by a test imports too."""

TEXTS = [
    "The cat sat on the mat, and the cats sat on the mats.",
    "A cat's café: 10,000 naïve cats!",
    "Unbelievable understanding; the standing cat understands.",
] * 3
