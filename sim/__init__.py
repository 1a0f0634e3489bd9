"""Running a model.net, and what its spikes cost."""
