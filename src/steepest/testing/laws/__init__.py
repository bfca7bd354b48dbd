"""Every law, one file for each thing that can go wrong."""
