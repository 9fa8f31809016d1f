"""What every HTTP endpoint of the platform needs to read requests."""
