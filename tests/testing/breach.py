"""The register of breaches: for every law an optimizer that breaks it, and as few others as possible.

Each is `Clean` with one decision gone wrong; most are small forms of faults that were shipped in some library.
"""

BREACHES = {}  # name of the law -> the class that breaks it


def breaks(cls):
    """Register a breach under the law that its docstring begins with."""
    BREACHES[cls.__doc__.split(":")[0]] = cls
    return cls
