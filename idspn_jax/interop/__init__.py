"""Exchange of parameters with other code bases."""
