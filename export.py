"""Export a trained network: `python export.py` is `ssr export`."""

from ssr_exp.__main__ import main

if __name__ == "__main__":
    main("export")
