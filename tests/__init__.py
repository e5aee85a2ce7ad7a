"""The tests. `support` helps, every other folder holds one kind of test."""
