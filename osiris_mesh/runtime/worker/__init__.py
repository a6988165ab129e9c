"""What runs inside the sandbox: the zygote that imports a function once, and the workers it forks.

The controller shares ``control.py`` with it and nothing else. Of the mesh it uses the errors, the codec, the blocking
half of a link, and the SDK's side inside a function; these files, and no others of ours, are visible there.
"""
