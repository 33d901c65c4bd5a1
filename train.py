"""Train rescaled versions of a ConvNet: `python train.py` is `ssr train`."""

from ssr_exp.__main__ import main

if __name__ == "__main__":
    main("train")
