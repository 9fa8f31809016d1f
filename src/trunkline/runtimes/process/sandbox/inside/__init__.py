"""What runs inside a sandbox before the agent does. Standard library only, and little of it."""
