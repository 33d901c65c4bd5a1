"""The command `ssr studies`."""
