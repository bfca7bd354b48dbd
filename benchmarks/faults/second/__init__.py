"""A second half to report on: plants and controls over models and data of their own."""
