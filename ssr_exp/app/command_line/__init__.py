"""Command lines: what may be typed, and a sentence for what may not."""
