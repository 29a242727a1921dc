"""Training of the network that places landmarks (model_core/faces/refinement.py) on the mean of many looks."""
