"""How well a run without a chosen rate does, against sweeps of rates: `python benchmarks/pilot` begins it."""
