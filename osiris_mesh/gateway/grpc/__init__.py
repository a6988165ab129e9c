"""Call, resolve and logs over gRPC; imported only where it listens, because grpcio is an extra."""
