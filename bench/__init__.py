"""Measurements. Each module is a script that prints its figures and the machine; none is a test."""
