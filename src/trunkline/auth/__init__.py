"""Who is calling: bearer tokens verified, and the built-in development issuer."""
