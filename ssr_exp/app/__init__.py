"""How a command is carried out: what brings the rooms together."""
