"""The generated demo dataset: drawn faces and synthesised voices in the shape of BLEMORE, for trying everything out.

Nobody real is shown or heard, and no download is needed. A label can be told from picture and audio only: lengths are
drawn without regard to labels, all files have one size and one time, and there are no tags.
"""

from blemore_harness.data.download import DEMO_MARKER
from blemore_harness.demo.plan import Cell, label_cells
from blemore_harness.demo.writing import GENERATOR_VERSION, demo_is_complete, write_demo

__all__ = ["DEMO_MARKER", "GENERATOR_VERSION", "Cell", "demo_is_complete", "label_cells", "write_demo"]
