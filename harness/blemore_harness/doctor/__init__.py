"""Whether an asked-for run could work on this machine, and what to do where it could not."""
