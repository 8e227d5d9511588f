"""The plan of a run: what is prepared, embedded and fitted, and what must be done before; it can be pickled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from blemore_harness.disk import digest_of
from blemore_harness.running.keeping import part_name, parts_of, takes_embeddings
from blemore_harness.running.run import Run
from blemore_harness.systems.resolved import ResolvedSystem

Step = Literal["prepare", "embed", "fit"]


@dataclass(frozen=True)
class Node:
    """A piece of work.

    Attributes:
        step: what is done.
        system: name of the encoder or fusion that does it.
        owner: name of the system that fails where it fails: an embedding may be needed by a fusion alone.
        folds: that are fitted, None for the final fit; empty for other steps.
        block: of a preparation of some of the clips, which block and of how many, counted from 0; None for all clips.
        address: digest of the system's identity and of the step: what comes out of it is the same everywhere.
        after: addresses of what must be done before.
    """

    step: Step
    system: str
    owner: str
    folds: tuple[int | None, ...]
    address: str
    after: tuple[str, ...]
    block: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """What is done, for people."""
        return " ".join([self.system, *(map(part_name, self.folds) if self.folds else [self.step])])


def plan_run(
    run: Run,
    with_embeddings: bool,
    together: Callable[[ResolvedSystem], bool],
    blocks: Callable[[ResolvedSystem], int] = lambda _: 1,
) -> tuple[Node, ...]:
    """Plan a whole run: encoders are prepared, then fitted; the fusion comes when all of them are.

    What is on disk is part of the plan, too: it is taken from there.

    Args:
        with_embeddings: whether a threshold strategy needs the embeddings of every encoder that has some.
        together: whether a system fits its folds in one call.
        blocks: as of `plan_preparation`.
    """
    nodes = [*plan_preparation(run, blocks)]
    fusion = run.fusion
    for encoder in run.encoders:
        prepared = _address(encoder, "prepare", ())
        nodes += _plan_fits(run, encoder, (prepared,), together)
        if with_embeddings and encoder.has_embeddings:
            nodes.append(_plan_embedding(encoder, encoder.name))
    if fusion is not None:
        before = [node.address for node in nodes]
        if takes_embeddings(fusion):
            nodes += [
                _plan_embedding(encoder, fusion.name)
                for encoder in run.encoders
                if _address(encoder, "embed", ()) not in before
            ]
        nodes += _plan_fits(run, fusion, [node.address for node in nodes], together)
    return tuple(nodes)


def plan_preparation(run: Run, blocks: Callable[[ResolvedSystem], int] = lambda _: 1) -> tuple[Node, ...]:
    """Plan that every encoder is prepared.

    Args:
        blocks: into how many blocks the clips of an encoder are divided, each with a node of its own before the one of
            all clips, which finds in the cache what they have made.
    """
    nodes = []
    for encoder in run.encoders:
        count, address = blocks(encoder), _address(encoder, "prepare", ())
        parts = [
            Node("prepare", encoder.name, encoder.name, (), f"{address}-{each + 1}-of-{count}", (), (each, count))
            for each in range(count if count > 1 else 0)
        ]
        after = tuple(part.address for part in parts)
        nodes += [*parts, Node("prepare", encoder.name, encoder.name, (), address, after)]
    return tuple(nodes)


def _plan_embedding(encoder: ResolvedSystem, owner: str) -> Node:
    address, prepared = _address(encoder, "embed", ()), _address(encoder, "prepare", ())
    return Node("embed", encoder.name, owner, (), address, (prepared,))


def _plan_fits(
    run: Run, resolved: ResolvedSystem, after: Sequence[str], together: Callable[[ResolvedSystem], bool]
) -> list[Node]:
    parts = parts_of(run, resolved)
    groups = [parts] if together(resolved) else [(part,) for part in parts]
    return [
        Node("fit", resolved.name, resolved.name, group, _address(resolved, "fit", group), tuple(after))
        for group in groups
    ]


def _address(resolved: ResolvedSystem, step: Step, folds: tuple[int | None, ...]) -> str:
    covers = resolved.covers if None in folds or step != "fit" else ""
    return digest_of([resolved.digest, step, list(folds), covers])
