"""The command `nlb`: one file per command, its path is the words typed. Commands are imported when used, and have no logic of
their own; but for the demo, which is a story told with real processes (`_demo*`).
"""
