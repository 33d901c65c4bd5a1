"""What a network is: its segments, its rescaled versions and their exact cost.

`segments.find` makes a plan of any module; `rescale.build`, `cost.of`, `cost.count`, `lattice.of`
and `sets.expand` read it; `codes.write` and `codes.parse` name a network.
"""
