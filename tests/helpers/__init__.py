"""What the tests share: runs, reference formulas, small data sets, servers and process groups."""
