package sdk

import (
	"context"

	"google.golang.org/grpc"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// Program is a plugin as a program: what ServeInterceptor and its siblings run.
// The testing kit takes one apart from its process. It is immutable.
type Program struct {
	name    string
	version string
	kind    wirev1.StageKind
	new     func() any
	handle  func(ctx context.Context, plugin any, b *Batch) error
}

// InterceptorProgram returns the program of an interceptor: new makes a plugin
// whose fields hold the defaults, each time a fresh one.
func InterceptorProgram(name, version string, new func() Interceptor) *Program {
	return &Program{
		name: name, version: version, kind: wirev1.StageKind_STAGE_KIND_INTERCEPTOR,
		new: func() any { return new() },
		handle: func(ctx context.Context, plugin any, b *Batch) error {
			return plugin.(Interceptor).OnSend(ctx, b)
		},
	}
}

// SerializerProgram returns the program of a serializer, as InterceptorProgram.
func SerializerProgram(name, version string, new func() Serializer) *Program {
	return &Program{
		name: name, version: version, kind: wirev1.StageKind_STAGE_KIND_SERIALIZER,
		new: func() any { return new() },
		handle: func(ctx context.Context, plugin any, b *Batch) error {
			return plugin.(Serializer).Serialize(ctx, b)
		},
	}
}

// PartitionerProgram returns the program of a partitioner, as InterceptorProgram.
func PartitionerProgram(name, version string, new func() Partitioner) *Program {
	return &Program{
		name: name, version: version, kind: wirev1.StageKind_STAGE_KIND_PARTITIONER,
		new: func() any { return new() },
		handle: func(ctx context.Context, plugin any, b *Batch) error {
			return plugin.(Partitioner).Partition(ctx, b)
		},
	}
}

// RegisterOptions change how a registered program behaves.
type RegisterOptions struct {
	// Poison overwrites what was lent once a batch is answered.
	Poison bool
	// Broken is called, at most once, when a record's function panicked and its
	// batch has been answered: the process must end. It must not block.
	Broken func()
}

// Register serves the program on a gRPC server of one's own, as a process would
// on its socket. Each registration is one configured stage.
func (p *Program) Register(to grpc.ServiceRegistrar, o RegisterOptions) {
	wirev1.RegisterPluginServer(to, newServer(p, o))
}
