"""How sure a number is, what it hangs on, and where it comes from."""
