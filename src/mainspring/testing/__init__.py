"""Contract suites that a plug-in's author runs: a new source's or drift test's test is one line."""
