"""The list of checks that every front end runs, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blemore_harness.testing import behaviour, declarations, limits
from blemore_harness.testing.bench import Trials


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what authors call it when they set it aside.
        says: what a plugin that passes does.
        run: raises `Broken` where it fails, `NotApplicable` where it says nothing about this system.
        encoders, fusions: whom it is for.
    """

    name: str
    says: str
    run: Callable[[Trials], None]
    encoders: bool = True
    fusions: bool = True

    def applies(self, is_fusion: bool) -> bool:
        """Whether it is for fusions, or for encoders."""
        return self.fusions if is_fusion else self.encoders


CHECKS: tuple[Check, ...] = (
    Check("imports", "its module imports in a fresh interpreter without torch", declarations.check_imports),
    Check("declares", "it registers, with name, summary, modality and frozen Options", declarations.check_declares),
    Check("options", "unknown options are refused, its own are read from text", declarations.check_options),
    Check("identity", "what it says about itself is plain and always the same", declarations.check_identity),
    Check("probabilities", "prepare, fit and predict give a valid row per clip", behaviour.check_probabilities),
    Check("order", "the order of clips does not change a row", behaviour.check_order),
    Check("company", "a clip's row does not depend on the clips beside it", behaviour.check_company),
    Check("names", "names and folders of clips do not change a row", behaviour.check_names),
    Check("repeats", "the same seed gives the same rows, from an empty cache too", behaviour.check_repeats),
    Check("resumes", "interrupted and done again, it gives the same rows", behaviour.check_resumes),
    Check("no-truth", "it fits where nobody can score held-out clips", behaviour.check_no_truth),
    Check("no-clips", "it can prepare for no clips, as `doctor` has it do", behaviour.check_no_clips, fusions=False),
    Check("one-clip", "a single held-out clip is enough", behaviour.check_one_clip),
    Check("missing-emotion", "an emotion may be missing in training", behaviour.check_missing_emotion),
    Check("learns", "it tells labels apart that can be seen and heard", behaviour.check_learns),
    Check("vectors", "a clip's vector does not depend on order and company", behaviour.check_vectors, fusions=False),
    Check("frame_features", "frame-level features are float32 (T, D)", behaviour.check_sequence, fusions=False),
    Check("together", "folds trained together are those trained alone", behaviour.check_together),
    Check("member-order", "the order of base models changes nothing", behaviour.check_member_order, encoders=False),
    Check("one-member", "a single base model can be fused", behaviour.check_one_member, encoders=False),
    Check("inputs", "arrays and files that it is given stay as they are", limits.check_inputs),
    Check("writes", "it writes in its workspace and the cache only", limits.check_writes),
    Check("offline", "it asks for no address outside `prepare`", limits.check_offline),
    Check("state", "generators, settings of torch, folder and environment stay as they were", limits.check_state),
    Check("gpu", "a GPU gives the same rows but for rounding", limits.check_gpu),
)  # fmt: skip


def checks_for(is_fusion: bool) -> tuple[Check, ...]:
    """Return the checks of fusions, or of encoders."""
    return tuple(check for check in CHECKS if check.applies(is_fusion))
