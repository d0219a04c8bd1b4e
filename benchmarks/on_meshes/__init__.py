"""Training on a mesh of devices: a model of the time of a step, and small meshes measured; `scaling.py` runs both."""
