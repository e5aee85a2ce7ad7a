"""The command `nlb`: one file per command, its path is the words typed. Commands are imported when used; no logic here."""
