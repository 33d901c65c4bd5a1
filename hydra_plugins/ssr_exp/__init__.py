"""What Hydra finds of this project: its sweeper."""
