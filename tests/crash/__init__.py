"""Whatever dies, and whenever: kills at every named moment, and power cuts in simulation. docs/reliability.md tells the rest."""
