"""Recorded conversations: written, read, played against an agent, and compared with its answers."""
