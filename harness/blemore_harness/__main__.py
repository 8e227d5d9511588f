"""Run the command line as `python -m blemore_harness`."""

from blemore_harness.cli import main

if __name__ == "__main__":
    main()
