"""Tests of `steepest.testing`."""
