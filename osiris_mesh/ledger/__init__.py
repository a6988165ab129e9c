"""The hash-chained ledger: signed entries, blocks, the state they amount to and who may change it."""
