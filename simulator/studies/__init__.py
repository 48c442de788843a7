"""Published results, simulated: a module a study, and the table that names them.

A study's module has: TITLE and SOURCE (the publication); Keys, a dataclass of its own `[study]` keys;
`published(request) -> list[Cell]`, every published cell; `asked(request) -> list[Cell]`, the cell that the overrides
ask for, published or not; `draw(cells, path)`, the figure beside the paper's values. Its experiment file is
exp_configs/studies/NAME.toml, or any file that is named. base.py has Cell and Request. FILE names another one,
`sections(request)` adds to the JSON, `show(outcome)` prints another table.
"""

STUDIES = {
    "ablate": "simulator.studies.ablate",
    "gemini": "simulator.studies.gemini",
    "stellatrain": "simulator.studies.stellatrain",
    "stronghold": "simulator.studies.stronghold",
    "syncswitch": "simulator.studies.syncswitch",
}
