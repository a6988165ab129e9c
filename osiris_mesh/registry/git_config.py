"""The configuration of a registry's clone, as git reads it."""

from __future__ import annotations

from typing import Final

__all__ = ["CONFIG", "PARTIAL"]

# Hooks and helpers of the user's other work have no place here: this file outranks his own configuration.
CONFIG: Final = """\
[core]
	repositoryformatversion = {format}
	bare = true
	hooksPath = /dev/null
	fsmonitor = false
	bigFileThreshold = 8m
	logAllRefUpdates = false
	attributesFile = /dev/null
	quotePath = true
[gc]
	auto = 2000
	autoPackLimit = 40
	autoDetach = false
	writeCommitGraph = false
[maintenance]
	auto = false
[fetch]
	fsckObjects = true
	unpackLimit = 1
	writeCommitGraph = false
	recurseSubmodules = false
	parallel = 1
	bundleURI =
[fastimport]
	unpackLimit = 100
[transfer]
	advertiseSID = false
	bundleURI = false
[push]
	gpgSign = false
	followTags = false
	recurseSubmodules = no
	default = nothing
[http]
	followRedirects = initial
	lowSpeedLimit = 100
	lowSpeedTime = 20
[log]
	showSignature = false
[remote "origin"]
	url = "{url}"
"""
PARTIAL: Final = """\
	promisor = true
	partialCloneFilter = blob:none
[extensions]
	partialClone = origin
"""
