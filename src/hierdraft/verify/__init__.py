"""What is kept: the only place that decides tokens."""
