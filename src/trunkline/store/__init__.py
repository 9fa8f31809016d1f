"""Durable state: agents, their versions, their sessions. ``interface`` says what a store does."""
