"""The data plane: finds the agent a request is for, and relays it untouched.

``door`` reads heads, ``routes`` says what they ask for, ``upgrade`` decides and connects,
``relay`` copies bytes, ``http`` passes ordinary requests through.
"""
