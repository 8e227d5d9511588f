"""Everything that a plugin can do wrong, a module for each."""
