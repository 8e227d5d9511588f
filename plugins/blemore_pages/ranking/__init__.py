"""The command `rank`: any number of submissions scored by labels that an organiser has, and ranked with ties."""
