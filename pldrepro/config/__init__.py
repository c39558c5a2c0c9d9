"""What is to be run: strict, typed settings, each beside its owner, and the studies that they make up."""
