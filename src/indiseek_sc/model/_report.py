"""A report of the model, its codes and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc._keys import ROLES, other
from indiseek_sc.data import read_batch, read_input
from indiseek_sc.model._audit import AuditMixin
from indiseek_sc.model._prediction import STAGE, PredictionMixin
from indiseek_sc.train import find_negative_bounds

if TYPE_CHECKING:
    from pathlib import Path

    from indiseek_sc._keys import Role
    from indiseek_sc.metrics import AuditReport, PredictionReport
    from indiseek_sc.report import ModelFacts


PREDICTED_CELLS = 2000
"""Cells whose predictions a report judges: of each there are as many values as genes are in use, four times."""


class ReportMixin(AuditMixin, PredictionMixin):
    """The report."""

    def report(
        self,
        path: str | Path,
        *,
        label_key: str | None = None,
        audit: AuditReport | None = None,
        compare: bool = False,
        source: str | None = None,
        seed: int = 0,
    ) -> None:
        """Write one HTML file that can be sent, opened from disk and read without Python.

        It has the UMAPs that are there, theta, attributions, audit, retrieval, predictions if :meth:`train_prediction` was called, clusters and histories, each with words on how to read it; settings,
        versions and warnings; and a paragraph for a methods section with its references. What is not there is said in words, with the call that
        makes it. What is missing and takes seconds is computed; the data are left as they are.

        Parameters
        ----------
        path
            File to write, such as ``"report.html"``; one that is there is overwritten.
        label_key
            Column of cell types, in ``mdata.obs`` or in a modality's obs; by default the one that
            :func:`indiseek_sc.tl.modality_importance` was asked for, if it was.
        audit
            What :meth:`audit` returned; computed if not given.
        compare
            Also compare clusters of the codes, and theta with WNN weights, where the data have no such tables yet. It takes minutes.
        source
            What the cells are, for the title.
        seed
            Seed of what the report computes.

        Raises
        ------
        KeyError
            If :meth:`write_latents` was not called, or there is no column ``label_key``.
        RuntimeError
            If the model is not trained.
        """
        # Here, since a model can be trained where nobody draws: matplotlib, scanpy and Jinja are loaded by who asks for a report.
        from indiseek_sc.report import write_report

        self._require("specific")
        write_report(
            path,
            self._validate_anndata(),
            label_key=label_key,
            model=self,
            facts=self._gather_facts(seed),
            audit=audit,
            compare=compare,
            source=source,
            seed=seed,
        )

    def _gather_facts(self, seed: int) -> ModelFacts:
        from indiseek_sc.report import ModelFacts

        batch, names = read_batch(self.registry_)
        settings = {name: value for name, value in vars(self.settings).items() if name != "lambda_"}
        settings |= {"independence": "+".join(self.module.critics["rna"].critics)}
        settings |= {"lambda": self.lambda_, "seed": self.seed}
        return ModelFacts(
            method=type(self).__name__,
            preset=self._preset,
            settings=settings,
            preprocessing={self.modalities[role]: self._describe_preprocessing(role) for role in ROLES},
            history=self.history,
            batch_key=None if batch is None else batch.key,
            batches=[] if batch is None else [str(name) for name in names],
            lambda_path=self.chosen_path,
            cautions=self._find_cautions(),
            predictions=self._judge_predictions(seed),
        )

    def _describe_preprocessing(self, role: Role) -> str:
        """The steps from the values of a modality to its features, in words."""
        kind = read_input(self.registry_, role)[1]["kind"]
        transform = self.module.transforms[role]
        words = {"counts": "counts", "normalized": "normalised values", "representation": "a given representation"}
        some = (
            f" of the {transform.n_features:,} most variable of {transform.n_input:,} features"
            if transform.n_features < transform.n_input
            else ""
        )
        steps = f"{words[kind]}{some} went through {transform.recipe}"
        return steps + (f" to {transform.n_output} components" if transform.recipe.project else "")

    def _judge_predictions(self, seed: int) -> dict[tuple[str, str], PredictionReport]:
        """Both directions, on some of the cells that were held out; nothing if nobody asked for the model to learn it."""
        if STAGE not in self.stages_:
            return {}
        cells = self.split.for_judging()[1]
        few = np.random.default_rng(seed).permutation(cells)[:PREDICTED_CELLS]
        pairs = [(self.modalities[other(role)], self.modalities[role]) for role in ROLES]
        return {pair: self.audit_prediction(*pair, indices=np.sort(few), units="normalized") for pair in pairs}

    def _find_cautions(self) -> list[str]:
        """What the training itself has to say against the codes."""
        cautions = []
        path = self.chosen_path
        if path is not None and not path.is_within:
            cautions.append(path.reason)
        negative = find_negative_bounds(self.history)
        if negative:
            listed = ", ".join(
                f"{name.rpartition('/')[2].replace('_', ' ')} {mean:.2f}" for name, mean in negative.items()
            )
            cautions.append(
                f"On validation cells the bounds of critics stayed negative ({listed} nats): they are no bounds then, and say nothing of independence. "
                "Judge by the audit."
            )
        return cautions
