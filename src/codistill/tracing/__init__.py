"""Tools that examine a network's forward: run it without values, count its cost, trace it, split it into segments."""
