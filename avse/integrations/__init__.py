"""`avse` inside other toolkits; each module imports its toolkit."""
