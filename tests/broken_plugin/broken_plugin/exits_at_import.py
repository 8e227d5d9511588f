"""Leaves while it is imported."""

import sys

sys.exit("this plugin wants another Python")
