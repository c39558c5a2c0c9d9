"""The contract: what a run folder holds. Training writes it, analysis reads it, and they share nothing else."""
