"""The conformance checks, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blemore_harness.testing import behaviour, declarations, limits
from blemore_harness.testing.trials import Trials


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: as `--only`, `--skip` and `not_applicable` take it.
        says: what a system that passes does.
        run: raises `Broken` where it fails, `NotApplicable` where it says nothing about this system.
        encoders, fusions: whom it is for.
    """

    name: str
    says: str
    run: Callable[[Trials], None]
    encoders: bool = True
    fusions: bool = True

    def applies(self, is_fusion: bool) -> bool:
        """Return whether it is for fusions, or for encoders."""
        return self.fusions if is_fusion else self.encoders


CHECKS: tuple[Check, ...] = (
    Check("imports", "its module imports in a fresh interpreter without torch", declarations.check_imports),
    Check("declares", "it registers, with name, summary, modality and frozen Options", declarations.check_declares),
    Check("options", "unknown options are refused, its own are read from text", declarations.check_options),
    Check("identity", "its facts are JSON values, the same each time", declarations.check_identity),
    Check("probabilities", "prepare, fit and predict give valid probabilities", behaviour.check_probabilities),
    Check("order", "predictions do not depend on the order of clips", behaviour.check_order),
    Check("batch-invariance", "predictions do not depend on other clips", behaviour.check_batch_invariance),
    Check("names", "predictions do not depend on names and folders of clips", behaviour.check_names),
    Check("repeats", "the same seed gives the same predictions, from an empty cache too", behaviour.check_repeats),
    Check("resumes", "interrupted and repeated, it gives the same predictions", behaviour.check_resumes),
    Check("no-labels", "it fits where `context.score` is unavailable", behaviour.check_no_labels),
    Check("no-clips", "it can prepare for no clips, as `doctor` asks", behaviour.check_no_clips, fusions=False),
    Check("saves", "its model, saved and loaded, gives the same predictions", behaviour.check_saves),
    Check("one-clip", "a single held-out clip is enough", behaviour.check_one_clip),
    Check("missing-emotion", "an emotion may be missing in training", behaviour.check_missing_emotion),
    Check("learns", "it recognises labels that can be seen and heard", behaviour.check_learns),
    Check("embeddings", "embeddings do not depend on other clips", behaviour.check_embeddings, fusions=False),
    Check("frame-features", "frame-level features are float32 (T, D)", behaviour.check_frame_features, fusions=False),
    Check("together", "folds trained together equal folds trained alone", behaviour.check_together),
    Check("base-model-order", "predictions do not depend on their order", behaviour.check_model_order, encoders=False),
    Check("one-base-model", "a single base model can be fused", behaviour.check_one_base_model, encoders=False),
    Check("inputs", "arrays and files that it is given are unchanged", limits.check_inputs),
    Check("writes", "it writes in its workspace and the cache only", limits.check_writes),
    Check("offline", "it uses no network outside `prepare`", limits.check_offline),
    Check("state", "random generators, torch settings, folder and environment are unchanged", limits.check_state),
    Check("gpu", "a GPU gives the same predictions but for rounding", limits.check_gpu),
)  # fmt: skip


def checks_for(is_fusion: bool) -> tuple[Check, ...]:
    """Return the checks of fusions, or of encoders."""
    return tuple(check for check in CHECKS if check.applies(is_fusion))
