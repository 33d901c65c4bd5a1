"""What training is: data, task, callbacks, run."""
