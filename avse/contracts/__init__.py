"""What each kind of plugin must be: one file a kind, with its abstract class and shapes; `checks` holds it to them."""
