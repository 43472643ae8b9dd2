"""Use cases: one module per thing a user or a peer asks for. They reach outside through `gramian.ports` only."""
