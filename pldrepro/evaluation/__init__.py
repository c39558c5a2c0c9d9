"""What is asked of a checkpoint after training: probes and zero-shot scores."""
