"""An error on its way from a worker process to the main one."""

import pickle
import traceback
from typing import Any


class Failure:
    """What a worker raised, in a form that every process can read.

    Type, arguments and notes survive, which PyTorch's own way does not keep; the traceback becomes a note.
    """

    def __init__(self, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        error.add_note(f"It was raised in a worker process:\n{text}")
        self._pickled = _pickled(error)

    def error(self) -> Exception:
        """Return the error."""
        return _restored(self._pickled)


def _pickled(error: Exception) -> bytes:
    """Return bytes that `_restored` can read; of an error that cannot be sent, those of one that quotes it."""
    fields = (type(error), error.args, vars(error))
    for candidate in (error, fields):  # fields: for an error whose __init__ takes something else than its arguments
        try:
            pickled = pickle.dumps(candidate)
            str(_restored(pickled))
        except Exception:
            continue
        return pickled
    return pickle.dumps(_replacement(error))


def _restored(pickled: bytes) -> Exception:
    loaded: Any = pickle.loads(pickled)
    if isinstance(loaded, Exception):
        return loaded
    kind, arguments, fields = loaded
    error = kind.__new__(kind, *arguments)
    vars(error).update(fields)
    return error


def _replacement(error: Exception) -> RuntimeError:
    other = RuntimeError(f"The dataset raised {type(error).__name__}: {error}")
    for note in getattr(error, "__notes__", []):
        other.add_note(note)
    return other
