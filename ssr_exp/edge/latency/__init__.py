"""How long networks take on a device: measured, kept in a file, predicted."""
