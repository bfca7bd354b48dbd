"""Watches a loop, and says why it diverges, sticks or does not learn; proven by replay where a replay can prove it."""

from steepest.doctor.doctor import Doctor, watch

__all__ = ["Doctor", "watch"]
