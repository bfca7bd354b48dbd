"""Laws that every optimizer must keep, ours or foreign, and who breaks them.

>>> import torch
>>> print(report(torch.optim.SGD, ["every-element-moves"], lr=0.1))
✓ every-element-moves
SGD(lr=0.1): 1 kept of 1 laws

A law is a sentence and a way to try it; `LAWS` has them all. A `Subject` is an optimizer with the options it is tried
with, perhaps an independent formula to hold it against, and the laws it breaks on purpose.
"""

from steepest.testing.judge import Verdict, check, reproduce
from steepest.testing.law import Broken, Law, NotApplicable
from steepest.testing.laws import LAWS
from steepest.testing.named import find, parse_options
from steepest.testing.reporting import Report, report
from steepest.testing.subject import Subject

__all__ = [
    "LAWS",
    "Broken",
    "Law",
    "NotApplicable",
    "Report",
    "Subject",
    "Verdict",
    "check",
    "find",
    "parse_options",
    "report",
    "reproduce",
]
