"""The REST control plane: agents, versions, sessions and logs, as existing clients accept them."""
