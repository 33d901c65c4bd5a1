"""Which networks to train next: what each promises, and what a batch promises together."""
