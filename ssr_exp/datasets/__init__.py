"""What a network learns from. Reads no configuration of a training."""
