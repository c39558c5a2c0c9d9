"""Where documents, GLUE examples and images come from: generated, local files, or the Hugging Face hub."""
