"""What each kind of operation does to channels: one file for each kind."""
