"""The official rules and nothing else: labels, decoding, the two accuracies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scores:
    """The two official accuracies of a set of clips.

    Attributes:
        presence: ACC_P, the share of clips whose set of emotions is right.
        salience: ACC_S, the share of truly blended clips whose emotions and saliences are right.
    """

    presence: float
    salience: float

    @property
    def score(self) -> float:
        """The number that systems are ranked by: the mean of both accuracies."""
        return (self.presence + self.salience) / 2
