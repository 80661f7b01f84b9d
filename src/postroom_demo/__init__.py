"""The demo: the real gateway, a scripted receiver, a scripted scanner and a steady feed of mail, in one command."""
