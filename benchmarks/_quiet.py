"""What scripts that print tables of many trainings begin with."""

from __future__ import annotations

import logging
import warnings

import torch


def train_quietly() -> None:
    """Leave out what each training would say, and use one thread: networks as small as these wait for each other's threads."""
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
