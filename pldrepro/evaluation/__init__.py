"""What is measured on a checkpoint after training: probes, and scores without fine-tuning."""
