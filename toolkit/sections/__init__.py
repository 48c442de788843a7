"""The sections of an experiment file, one dataclass a section; toolkit.experiment puts them together."""
