"""A table of attributions."""

from __future__ import annotations

import numpy as np
import pandas as pd

ATTRIBUTIONS = pd.DataFrame(
    {
        "modality": "adt",
        "kind": "specific",
        "method": "decoder_jacobian",
        "dimension": np.repeat([0, 1], 8),
        "group": "all",
        "n_cells": 9,
        "feature": [f"adt{i}" for i in range(8)] * 2,
        "attribution": np.linspace(-1, 1, 16),
        "standard_error": 0.1,
        "magnitude": np.linspace(0, 1, 16),
    }
)
TWO_KINDS = pd.concat([ATTRIBUTIONS, ATTRIBUTIONS.assign(kind="shared")])
TWO_GROUPS = pd.concat([ATTRIBUTIONS, ATTRIBUTIONS.assign(group="B")])
