package wire

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/barnabas-agent/barnabas/core/record"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// Codec is gRPC's proto codec with generated code for the messages of the
// protocol; any other message goes to the standard one. It is safe for concurrent use.
//
// Marshal copies a message once, into a buffer of the pool. A message received
// into a [BatchFrame] or a [ReplyFrame] is copied once, into the frame's own
// memory, which the message then refers to; any other message owns its bytes.
type Codec struct {
	pool  mem.BufferPool
	proto encoding.CodecV2
}

var _ encoding.CodecV2 = (*Codec)(nil)

// NewCodec returns a codec that takes its buffers from pool.
func NewCodec(pool mem.BufferPool) *Codec {
	return &Codec{pool: pool, proto: encoding.GetCodecV2(proto.Name)}
}

// Name is the content subtype, that of the standard codec.
func (*Codec) Name() string { return proto.Name }

// generated is what the messages of the protocol have.
type generated interface {
	SizeVT() int
	MarshalToSizedBufferVT(to []byte) (int, error)
	UnmarshalVT(from []byte) error
}

// Marshal encodes a message.
func (c *Codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(generated)
	if !ok {
		return c.proto.Marshal(v)
	}
	buffer := c.pool.Get(m.SizeVT())
	if _, err := m.MarshalToSizedBufferVT(*buffer); err != nil {
		c.pool.Put(buffer)
		return nil, fmt.Errorf("encode a %T: %w", v, err)
	}
	return mem.BufferSlice{mem.NewBuffer(buffer, c.pool)}, nil
}

// Unmarshal decodes a message. The message owns its bytes afterwards.
func (c *Codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case *BatchFrame:
		m.Batch.Reset()
		return m.Batch.UnmarshalVTUnsafe(m.memory.fill(data, c.pool))
	case *ReplyFrame:
		m.Reply.Reset()
		encoded := m.memory.fill(data, c.pool)
		if err := checkReplyLists(encoded); err != nil {
			return err
		}
		return m.Reply.UnmarshalVTUnsafe(encoded)
	case generated:
		buffer := data.MaterializeToBuffer(c.pool)
		defer buffer.Free()
		if err := checkSize(v, buffer.ReadOnlyData()); err != nil {
			return err
		}
		return m.UnmarshalVT(buffer.ReadOnlyData())
	default:
		return c.proto.Unmarshal(data, v)
	}
}

// checkSize refuses a message that would take much more memory than its bytes.
func checkSize(v any, encoded []byte) error {
	switch v.(type) {
	case *wirev1.Batch:
		return nil
	case *wirev1.Reply:
		return checkReplyLists(encoded)
	}
	if len(encoded) > maxControlMessage {
		return fmt.Errorf("a %T of %d bytes, more than %d", v, len(encoded), maxControlMessage)
	}
	return nil
}

// BatchFrame receives batches, one after the other, with a stream's RecvMsg. Its
// Batch refers to the frame's memory: it is valid until the next RecvMsg into the frame.
type BatchFrame struct {
	Batch  wirev1.Batch
	memory frameMemory
}

// Poison overwrites the frame's memory and takes other memory for the next
// batch. It shows, in tests, who keeps bytes longer than they are lent.
func (f *BatchFrame) Poison(with byte) {
	if f.memory.buffer != nil {
		for i := range *f.memory.buffer {
			(*f.memory.buffer)[i] = with
		}
		f.memory.buffer = nil
	}
	f.Batch.Reset()
}

// ReplyFrame receives replies, one after the other, with a stream's RecvMsg. Its
// Reply refers to the frame's memory: it is valid until the next RecvMsg into
// the frame, after LendTo until the batch's reset.
type ReplyFrame struct {
	Reply  wirev1.Reply
	memory frameMemory
}

// LendTo leaves the memory to a batch that now refers to it, until the batch is
// reset; the frame takes other memory for its next reply. It must be called
// when Outcome.Adopted is not 0.
func (f *ReplyFrame) LendTo(b *record.Batch) {
	buffer, pool := f.memory.buffer, f.memory.pool
	f.memory.buffer = nil
	f.Reply.Reset()
	if buffer != nil {
		b.OnReset(func() { pool.Put(buffer) })
	}
}

// frameMemory holds the bytes of one message and is used again for the next.
type frameMemory struct {
	buffer *[]byte // from pool; nil: none
	pool   mem.BufferPool
}

// keptMemory is how many bytes a frame keeps for the next message whatever its size.
const keptMemory = 1 << 20

// fill copies a message into the memory and returns it.
func (m *frameMemory) fill(data mem.BufferSlice, pool mem.BufferPool) []byte {
	n := data.Len()
	if m.buffer != nil {
		size := cap(*m.buffer)
		if wasteful := size > keptMemory && n < size/4; n > size || wasteful {
			m.pool.Put(m.buffer)
			m.buffer = nil
		}
	}
	if m.buffer == nil {
		m.buffer, m.pool = pool.Get(n), pool
	}
	*m.buffer = (*m.buffer)[:n]
	data.CopyTo(*m.buffer)
	return *m.buffer
}
