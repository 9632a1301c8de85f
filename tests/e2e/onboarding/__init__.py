"""Makes a package of these tests, whose fixtures end with the last of them."""
