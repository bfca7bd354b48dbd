"""Controls: training that is healthy, half of it looking as if it were not."""
