"""`python -m steepest`, and so `torchrun -m steepest`."""

from steepest.cli import main

if __name__ == "__main__":
    main()
