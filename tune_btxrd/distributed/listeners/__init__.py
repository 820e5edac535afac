"""Listeners: who hears of trials while a search runs."""
