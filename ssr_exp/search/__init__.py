"""What to train next: records and the lattice go in, networks come out."""

import warnings

# linear_operator 0.6 calls what torch is about to drop, once, when it is first imported.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated", FutureWarning)
    import linear_operator  # noqa: F401
