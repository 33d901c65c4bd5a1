"""Structured Segment Rescaling: rebuild a ConvNet smaller, train few, predict the rest."""

__version__ = "0.1.0"
