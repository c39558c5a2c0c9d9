"""Text, GLUE, LAMBADA and images: from a source to arrays and batches. No torch here."""
