"""Proofs that a run survives whatever happens to it; `python benchmarks/reliability` runs them."""
