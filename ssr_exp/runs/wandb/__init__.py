"""Weights & Biases: the same fields as the record, and what a search believes."""
