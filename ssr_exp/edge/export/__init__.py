"""A trained network as files for a device, each of them verified."""
