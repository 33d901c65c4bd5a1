"""What a network is: its segments, its rescaled versions and their exact cost.

`planning.trace` makes a plan of any module; `rescale.build`, `cost.count_one`, `cost.count`,
`lattice.from_plan` and `sets.expand` read it; `codes.write` and `codes.parse` name a network.
"""
