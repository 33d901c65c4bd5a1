"""What a user ships: measure networks where they will run."""
