"""Show all trade-offs on one page: `python report.py` is `ssr report`."""

from ssr_exp.__main__ import main

if __name__ == "__main__":
    main("report")
