"""Broken inputs of every kind that headatlas reads, each made from its number alone."""
