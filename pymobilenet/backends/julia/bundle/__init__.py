"""Bundles: Julia, its packages and their compiled code in one file, for machines without network.

A bundle is made from a Julia backend that works (`make`), unpacked on another machine (`use`), and
chosen by an environment variable (`installed`). It is a tar archive (`archive`) with a list of all
its files (`manifest`), and says what it was made from and for (`info`).
"""
