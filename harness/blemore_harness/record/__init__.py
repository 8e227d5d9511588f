"""The record of a run as types: what plugins are told, what stands in `record.json`."""
