"""The tests, in the folders of the rooms they test. Nothing outside may import them."""
