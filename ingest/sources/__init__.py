"""Readers of export files and of public data sets."""
