"""The workloads, in two halves: constants are chosen on one, and what is claimed is measured on the other.

Each family that has two has one in each half. The halves were fixed before anything was tuned. A third part, unseen,
was written later and without regard to any contender: it judges what was made with both halves in sight.
"""

import importlib
from functools import cache

from pilot.workloads.workload import Workload

TUNE = (
    "conv_digits", "overfit_few", "gpt_stdlib", "finetune_digits", "gru_recall", "diabetes_raw", "cancer_raw",
    "flow_ring", "pinn_oscillator", "autoencoder_digits", "residual24", "factors_zipf", "quadratic_full",
)  # fmt: skip
FRESH = (
    "conv_small_batch", "overfit_noisy", "gpt_continued", "lstm_series", "student_raw", "wine_raw",
    "contrastive_digits", "diffusion_digits", "pinn_forced", "graph_largest", "tanh12", "probe_digits",
    "poisson_full",
)  # fmt: skip
UNSEEN = (
    "transformer24_sort", "postnorm_motifs", "picture_sine", "rezero40_load", "flow_chain", "triplet_signals",
    "fraud_raw", "lstm_adding", "segments_continued", "finetune_faults", "friedman_dropout", "batchnorm_shifts",
    "boundary_cubic", "mixture_series",
)  # fmt: skip
PARTS = {"tune": TUNE, "fresh": FRESH, "all": TUNE + FRESH, "unseen": UNSEEN}

FAMILIES = (
    "conv", "overfit", "gpt", "recurrent", "tabular", "columns", "contrastive", "flow", "diffusion", "pinn",
    "autoencoder", "graph", "deep", "factors", "tuned", "convex", "sorting", "encoder", "picture", "rezero",
    "coupling", "triplet", "fraud", "adding", "segments", "waveforms", "friedman", "shifts", "boundary", "mixture",
)  # fmt: skip
"""The files; some hold two families."""


@cache
def every() -> dict[str, Workload]:
    """Return name -> workload, all of them; their data is made once."""
    modules = [importlib.import_module(f"pilot.workloads.{family}") for family in FAMILIES]
    return {workload.name: workload for module in modules for workload in module.workloads()}


def chosen(part: str = "all", prefix: str = "") -> list[str]:
    """Return the names of a part that begin so. Raises ValueError when there is none."""
    names = [name for name in PARTS[part] if name.startswith(prefix)]
    if not names:
        raise ValueError(f"No workload of {part} begins with {prefix!r}; there are {', '.join(PARTS[part])}.")
    return names
