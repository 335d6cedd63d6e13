"""Hooks on a running model: attention calls (through transformers' attention interface), modules, attention rows."""
