"""A benchmark of what says why training goes wrong: planted faults, healthy twins, scary but healthy controls."""
