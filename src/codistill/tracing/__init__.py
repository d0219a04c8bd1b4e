"""A network's forward, looked at from outside: run on nothing, counted, followed by torch.fx, cut before a module."""
