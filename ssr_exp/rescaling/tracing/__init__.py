"""Reads a network once: runs it on the meta device, and follows every channel."""
