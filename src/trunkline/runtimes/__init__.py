"""Ways to run an agent; all pass one conformance suite. ``interface`` says what each can do."""
