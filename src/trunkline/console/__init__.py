"""The console: pages for people, to talk to an agent and to watch it work.

``static`` is what a browser gets, as it is: no build, nothing from anywhere else. The pages use
the same REST API and the same sockets as any other client, and may do what their user may.
"""
