"""What each kind of plugin must be: one file a kind, with its abstract class, shapes and conformance checks."""
