"""What the stores on SQL databases share: the statements, and what they are made into."""
