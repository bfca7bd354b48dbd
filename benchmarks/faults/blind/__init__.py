"""Cases that the author of the checks does not look at: see README.md."""
