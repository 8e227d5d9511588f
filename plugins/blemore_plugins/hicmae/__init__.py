"""HiCMAE, frozen: picture and sound together as features over time, and a head."""
