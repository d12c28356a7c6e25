"""Vantages, probes, the matrix of cells, and the baseline."""
