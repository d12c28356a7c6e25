"""A deploy host's files as operators have them, before and after; the edited places are those of the written-up migration."""
