"""Which files a path means, and who reads them."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from steepest.data.samples import Samples
from steepest.data.text import Lines

READ = "Paths are read when they end in .parquet, .txt or .jsonl, or are a folder of .parquet files"


def open_files(data: str | Path | list[Any], batch_size: int, seed: int | None, workers: int) -> Any:
    """Return the source of batches for a path, or a list of paths of Parquet files."""
    several = isinstance(data, list)
    paths = [Path(each) for each in data] if isinstance(data, list) else [Path(data)]
    for path in paths:
        _check_path(path, several)
    if not several and paths[0].suffix in (".txt", ".jsonl"):
        return Samples(Lines(paths[0]), batch_size, seed, workers)
    return _parquet(_contents(paths[0]) if paths[0].is_dir() else paths, batch_size, seed)


def _parquet(paths: list[Path], batch_size: int, seed: int | None) -> Any:
    if find_spec("pyarrow") is None:
        raise ModuleNotFoundError(
            f"Reading {paths[0]} needs pyarrow, which is not installed: pip install 'steepest[parquet]'."
        )
    from steepest.data.parquet import Parquet  # it imports pyarrow, which few runs need

    return Parquet(paths, batch_size, seed)


def _check_path(path: Path, several: bool) -> None:
    if not path.exists():
        raise FileNotFoundError(f"There is no {path} (looked from {Path.cwd()}); expected a file or folder of data.")
    if path.is_dir() and not several:
        return
    if path.suffix == ".parquet" or (path.suffix in (".txt", ".jsonl") and not several):
        return
    if several:
        raise ValueError(f"The list of paths holds {path}; a list of paths holds .parquet files only.")
    raise ValueError(f"The data is the path {path}. {READ}; read others yourself and pass arrays or a Dataset.")


def _contents(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise ValueError(f"The folder {folder} holds no .parquet file. {READ}.")
    return files
