"""What the operator sees: the log, and health."""
