"""The data plane: splits, holds, translates and accounts the requests of a pool's clients."""
