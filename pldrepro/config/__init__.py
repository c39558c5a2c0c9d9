"""What is to be run: strict, typed settings, each next to its owner, and the studies that they make up."""
