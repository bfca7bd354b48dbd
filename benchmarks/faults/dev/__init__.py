"""Planted faults to develop with."""
