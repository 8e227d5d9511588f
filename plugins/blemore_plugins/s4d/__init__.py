"""S4D-ViTMoE on face crops, adapted with soft labels."""
