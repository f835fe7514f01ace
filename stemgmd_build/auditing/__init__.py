"""Kits listened to with numbers: what is wrong, how loud each piece is, one gain a kit."""
