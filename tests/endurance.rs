//! What clients that misbehave, all at once, can do to the gateway.
