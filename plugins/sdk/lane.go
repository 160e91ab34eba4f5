package sdk

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// poison is what borrowed memory is overwritten with.
const poison = 0xDB

// lane answers the batches of one stream, in order. One goroutine uses it, and
// its memory serves batch after batch.
type lane struct {
	server *server
	frame  wire.BatchFrame
	batch  Batch
	retry  wirev1.Reply
}

// Lane answers batches until the agent ends the stream.
func (s *server) Lane(stream grpc.BidiStreamingServer[wirev1.Batch, wirev1.Reply]) error {
	l := &lane{server: s}
	for {
		err := stream.RecvMsg(&l.frame)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		reply, err := l.answer(stream.Context())
		if err != nil {
			return err
		}
		if err := stream.Send(reply); err != nil {
			return err
		}
		if s.options.Poison {
			l.frame.Poison(poison)
			l.batch.reply.Poison(poison)
		}
		if l.batch.panicked {
			if s.options.Broken != nil {
				s.broken.Do(s.options.Broken)
			}
			return status.Error(codes.Aborted, "a record's function panicked; the batch has been answered")
		}
	}
}

// answer lets the plugin handle the batch in the frame. A canary waits for its
// turn as well, so that a plugin that hangs does not answer it.
func (l *lane) answer(ctx context.Context) (*wirev1.Reply, error) {
	m := &l.frame.Batch
	b := &l.batch
	if err := b.view.Decode(m); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	b.reply.Reset(b.Len())
	if m.TimeoutMs > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(m.TimeoutMs)*time.Millisecond)
		defer cancel()
	}
	err := l.server.withPlugin(func(plugin any) error { return l.call(ctx, plugin) })
	if retry, ok := errors.AsType[*retryError](err); ok {
		return l.retryLater(m, retry), nil
	}
	if err != nil {
		return nil, asStatus(err)
	}
	return b.reply.Build(m.Id), nil
}

// maxErrorText bounds the text of a plugin's error: it travels in a header of
// HTTP/2, which the agent limits.
const maxErrorText = 8 << 10

// asStatus makes the plugin's error the end of the stream.
func asStatus(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	text := err.Error()
	return status.Error(codes.Unknown, strings.ToValidUTF8(text[:min(len(text), maxErrorText)], "?"))
}

// call needs the server's turn.
func (l *lane) call(ctx context.Context, plugin any) error {
	b := &l.batch
	if b.Len() == 0 {
		return nil
	}
	b.stage = l.server.stage
	if missing := b.stage.columns.Reads &^ b.view.Columns(); missing != 0 {
		return status.Errorf(codes.InvalidArgument, "batch %d lacks %s, which the plugin reads", l.frame.Batch.Id, missing)
	}
	if !b.stage.takesObjects && b.hasPayload() {
		b.refuseObjects()
	}
	return l.server.program.handle(ctx, plugin, b)
}

// hasPayload reports whether the agent sent what a serializer serializes.
func (b *Batch) hasPayload() bool {
	if b.stage.role == RoleKey {
		return b.view.Columns().Has(ColumnKey)
	}
	return b.view.Columns().Has(ColumnValue)
}

// refuseObjects refuses what a serializer that takes no objects can't serialize.
func (b *Batch) refuseObjects() {
	for i := range b.Len() {
		if b.PayloadKind(i) == KindObject {
			b.Fail(i, Errorf("object.unsupported", "this serializer takes no objects"))
		}
	}
}

func (l *lane) retryLater(m *wirev1.Batch, why *retryError) *wirev1.Reply {
	l.retry.Reset()
	l.retry.Id, l.retry.Count = m.Id, m.Count
	l.retry.RetryLater = &wirev1.RetryLater{Reason: why.Error(), AfterMs: uint32(min(max(why.after.Milliseconds(), 0), math.MaxUint32))}
	return &l.retry
}
