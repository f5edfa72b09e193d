"""Boards that send frames over a serial port."""
