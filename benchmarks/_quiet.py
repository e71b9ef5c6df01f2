"""Set-up of scripts that train many models and print tables."""

from __future__ import annotations

import logging
import warnings

import torch


def train_quietly() -> None:
    """Silence logs and warnings, and use one thread, which is fastest for networks of this size."""
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
