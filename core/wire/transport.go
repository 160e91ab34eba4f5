package wire

import (
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/experimental"
)

// MaxMessageSize bounds one message in bytes, in both directions.
const MaxMessageSize = 32 << 20

// The transport's settings, the same at both ends. Both windows are set: a large
// stream window alone leaves the connection at HTTP/2's 64 KiB.
const (
	streamWindow      = 4 << 20
	connectionWindow  = 16 << 20
	transportBuffer   = 256 << 10
	socketBuffer      = 1 << 20 // the default of 208 KiB parks the writer of a batch several times
	maxStreams        = 64
	connectionTimeout = 5 * time.Second
)

// Transport holds what all connections of one process share. It is safe for concurrent use.
type Transport struct {
	pool  *BufferPool
	codec *Codec
}

// NewTransport returns a transport with a buffer pool of its own.
func NewTransport() *Transport {
	pool := NewBufferPool()
	return &Transport{pool: pool, codec: NewCodec(pool)}
}

// ServerOptions are the options of the plugin's server.
func (t *Transport) ServerOptions(creds credentials.TransportCredentials) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(creds),
		grpc.MaxRecvMsgSize(MaxMessageSize),
		grpc.MaxSendMsgSize(MaxMessageSize),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.ReadBufferSize(transportBuffer),
		grpc.WriteBufferSize(transportBuffer),
		grpc.ForceServerCodecV2(t.codec),
		experimental.BufferPool(t.pool),
		grpc.ConnectionTimeout(connectionTimeout),
		grpc.MaxConcurrentStreams(maxStreams),
	}
}

// DialOptions are the options of the host's connections. A connection never
// goes idle: dialing anew needs the socket's path, which may be gone by then.
func (t *Transport) DialOptions(creds credentials.TransportCredentials) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithIdleTimeout(0),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connectionWindow),
		grpc.WithReadBufferSize(transportBuffer),
		grpc.WithWriteBufferSize(transportBuffer),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(MaxMessageSize),
			grpc.MaxCallSendMsgSize(MaxMessageSize),
			grpc.ForceCodecV2(t.codec),
		),
		grpc.WithMaxHeaderListSize(math.MaxUint16),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		experimental.WithBufferPool(t.pool),
	}
}
