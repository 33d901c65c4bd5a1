"""What is remembered: one record for each training, the only thing that rooms share."""
