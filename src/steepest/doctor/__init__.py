"""Watches a loop, and says why it diverges, sticks or does not learn; proven by replay where a replay can prove it."""

from steepest.doctor.doctor import Doctor, watch
from steepest.doctor.examine import Examination, examine

__all__ = ["Doctor", "Examination", "examine", "watch"]
