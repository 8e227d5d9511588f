"""The encoders and fusions that ship with blemore-harness; they use only the core's public names, like anyone's."""
