"""Search rescaled versions of a ConvNet: `python search.py` is `ssr search`."""

from ssr_exp.__main__ import main

if __name__ == "__main__":
    main("search")
