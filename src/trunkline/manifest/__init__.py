"""The files an agent's author writes, and the definition made of them.

``agent.yaml``, the project's ``.env`` files, the zip of an agent's folder, and the hosted
definition as it goes over the wire. Reads and writes the folders it is told to; opens no
connection, starts no process and never looks at this process's own environment variables.
"""
