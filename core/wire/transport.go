package wire

// MaxMessageSize bounds one message in bytes, in both directions.
const MaxMessageSize = 32 << 20
