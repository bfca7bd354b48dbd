"""Whether the checkpoints of a folder are what was written."""

from dataclasses import dataclass
from pathlib import Path

from steepest.checkpoint.disk import step_of, steps
from steepest.checkpoint.manifest import MANIFEST, Damaged, Manifest, Newer
from steepest.checkpoint.reading import examine


@dataclass(frozen=True)
class Verdict:
    """What was found about one checkpoint. fault: None, or a sentence that names the file and what is wrong."""

    path: Path
    step: int | None
    fault: str | None


def verify(out: Path) -> list[Verdict]:
    """Compare every file of every checkpoint with what was written, and change nothing; the lowest step first.

    out: a run's folder, its folder `checkpoints`, or one checkpoint. Of a run's checkpoints, all must be of the same
    run as the newest sound one. ValueError when there is no such folder.
    """
    out = Path(out)
    if not out.is_dir():
        raise ValueError(f"{out} is not a folder; give a run's folder or one of its checkpoints.")
    if step_of(out.name) is not None or (out / MANIFEST).exists():
        verdict, _ = _judge(out)
        return [verdict]
    folder = out / "checkpoints" if (out / "checkpoints").is_dir() else out
    verdicts, run = [], None
    for _, path in reversed(steps(folder)):
        verdict, manifest = _judge(path)
        if manifest is not None:
            run = run or manifest.run
            if manifest.run != run:
                verdict = Verdict(path, verdict.step, f"{path} {of_another_run(manifest, run)}.")
        verdicts.append(verdict)
    return verdicts[::-1]


def sound(path: Path) -> Manifest:
    """Return the manifest of a sound checkpoint under its own name; raises as `examine` does."""
    manifest = examine(path)
    step = step_of(path.name)
    if step is not None and manifest.step != step:
        raise Damaged(f"{path / MANIFEST} says that this is step {manifest.step}")
    return manifest


def of_another_run(manifest: Manifest, run: str) -> str:
    """Return the words for a checkpoint among those of another run."""
    return f"is of run {manifest.run or '(none)'}, and the others are of run {run}"


def _judge(path: Path) -> tuple[Verdict, Manifest | None]:
    try:
        manifest = sound(path)
    except Damaged as damage:
        return Verdict(path, step_of(path.name), f"{damage}."), None
    except Newer as newer:
        return Verdict(path, step_of(path.name), str(newer)), None
    except OSError as error:
        return Verdict(path, step_of(path.name), f"{error.filename or path} cannot be read: {error.strerror}."), None
    return Verdict(path, manifest.step, None), manifest
