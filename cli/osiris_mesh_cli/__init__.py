"""The command line: parse, ask the controller through the SDK, render. One file per noun."""
