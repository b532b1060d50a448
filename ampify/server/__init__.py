"""The language server: what is found and mended in files as an editor holds them."""
