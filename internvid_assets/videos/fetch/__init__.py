"""Bytes from other machines: paced by host, tried again with patience, resumed where they broke off, verified."""
