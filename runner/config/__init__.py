"""From raw YAML to validated, frozen specs; every problem is reported at once, by path."""
