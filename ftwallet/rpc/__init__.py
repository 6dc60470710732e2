"""gRPC: the code made from protos/ (v1), the mapping to our own types, clients and servicers."""
