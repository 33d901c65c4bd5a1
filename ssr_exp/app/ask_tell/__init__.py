"""A study whose networks a loop of the user's own trains: what `ssr_exp.Study` is made of."""
