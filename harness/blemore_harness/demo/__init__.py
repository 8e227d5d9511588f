"""The generated demo dataset: drawn faces and synthesised voices in the format of BLEMORE, for trying out the harness.

It shows no real people and needs no download. Labels can be inferred from video and audio only: lengths are independent
of labels, all files have the same size and timestamp, and there are no metadata tags.
"""

from blemore_harness.data.download import DEMO_MARKER
from blemore_harness.demo.plan import Cell, label_cells
from blemore_harness.demo.writing import GENERATOR_VERSION, demo_is_complete, write_demo

__all__ = ["DEMO_MARKER", "GENERATOR_VERSION", "Cell", "demo_is_complete", "label_cells", "write_demo"]
