"""Folders of class folders: their layout, their images, and how these are decoded."""
