package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/barnabas-agent/barnabas/core/record"
	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
	"github.com/barnabas-agent/barnabas/plugins/sdk"
	"github.com/barnabas-agent/barnabas/plugins/sdk/internal/rows"
)

// connection is a running plugin, not yet configured.
type connection struct {
	conn    *grpc.ClientConn
	process *process // nil where the plugin runs in this process
	stop    func()   // ends the plugin, and waits for it
}

// connector starts a plugin, each time a fresh one.
type connector func(ctx context.Context) (*connection, error)

// subject is one configured stage under test. One goroutine uses it.
type subject struct {
	options     options
	connection  *connection
	client      wirev1.PluginClient
	description *wirev1.Description
	reads       wire.ColumnSet
	rules       wire.Rules
	encoder     *wire.Encoder
	lane        wirev1.Plugin_LaneClient
	cancelLane  context.CancelFunc
	frame       wire.ReplyFrame
	lastID      uint64
}

// open starts and describes a plugin.
func open(ctx context.Context, connect connector, o options) (*subject, error) {
	c, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	s := &subject{options: o, connection: c, client: wirev1.NewPluginClient(c.conn), encoder: wire.NewEncoder(nil)}
	if s.description, err = s.client.Describe(ctx, &wirev1.DescribeRequest{}); err != nil {
		s.close()
		return nil, fmt.Errorf("describe: %w", err)
	}
	return s, nil
}

// start opens a plugin, configures it and opens a lane.
func start(ctx context.Context, connect connector, config string, o options) (*subject, error) {
	s, err := open(ctx, connect, o)
	if err != nil {
		return nil, err
	}
	if err := s.configure(ctx, config); err != nil {
		s.close()
		return nil, err
	}
	if err := s.openLane(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// openLane opens the subject's lane, which lives until the subject is closed.
func (s *subject) openLane(ctx context.Context) error {
	laneContext, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancelLane = cancel
	var err error
	if s.lane, err = s.client.Lane(laneContext); err != nil {
		return fmt.Errorf("open a lane: %w", err)
	}
	return nil
}

// another returns the same stage with a lane of its own, for another goroutine.
// Its cancelLane must be called; the plugin ends with s.
func (s *subject) another(ctx context.Context) (*subject, error) {
	other := &subject{
		options: s.options, connection: s.connection, client: s.client, description: s.description,
		reads: s.reads, rules: s.rules, encoder: wire.NewEncoder(nil),
	}
	if err := other.openLane(ctx); err != nil {
		other.cancelLane()
		return nil, err
	}
	return other, nil
}

func (s *subject) configure(ctx context.Context, config string) error {
	request := &wirev1.ConfigureRequest{Config: config, Pipeline: "plugintest", Stage: s.description.Name}
	if s.options.role == sdk.RoleKey {
		request.Role = wirev1.Role_ROLE_KEY
	}
	reply, err := s.client.Configure(ctx, request)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	var wrong []error
	for _, e := range reply.Errors {
		wrong = append(wrong, &sdk.ConfigError{Pointer: e.Pointer, Message: e.Message})
	}
	if len(wrong) > 0 {
		return fmt.Errorf("configure: %w", errors.Join(wrong...))
	}
	s.reads = wire.ColumnsOf(s.description.Reads)
	s.rules = wire.Rules{
		Stage: s.description.Name, Writes: wire.ColumnsOf(s.description.Writes), MayDrop: s.description.MayDrop,
		AllowObjects: s.description.Kind == wirev1.StageKind_STAGE_KIND_INTERCEPTOR,
	}
	if reply.Reads != nil {
		s.reads = wire.ColumnsOf(reply.Reads)
	}
	if reply.Writes != nil {
		s.rules.Writes = wire.ColumnsOf(reply.Writes)
	}
	return s.updateTopology(ctx, s.options.topology)
}

// updateTopology says how many partitions topics have.
func (s *subject) updateTopology(ctx context.Context, topics []sdk.TopicPartitions) error {
	topology := &wirev1.Topology{}
	for _, t := range topics {
		known := &wirev1.TopicPartitions{Topic: t.Topic, Partitions: uint32(t.Partitions)}
		for _, p := range t.Unavailable {
			known.Unavailable = append(known.Unavailable, uint32(p))
		}
		topology.Topics = append(topology.Topics, known)
	}
	if _, err := s.client.UpdateTopology(ctx, topology); err != nil {
		return fmt.Errorf("update the topology: %w", err)
	}
	return nil
}

// delivery is one batch on its way through the plugin.
type delivery struct {
	batch *record.Batch
	rows  []uint32
}

// newDelivery numbers a batch of records.
func (s *subject) newDelivery(records []rows.Row) *delivery {
	s.lastID++
	b := rows.Batch(records)
	b.ID = s.lastID
	return &delivery{batch: b, rows: append([]uint32(nil), b.Live...)}
}

// send sends a batch; unknown adds a field that the protocol does not have.
func (s *subject) send(d *delivery, attempt uint32, unknown bool) error {
	frame, err := s.encoder.Encode(d.batch, d.rows, s.reads, wire.Frame{Attempt: attempt, Timeout: s.options.timeout})
	if err != nil {
		return err
	}
	if unknown {
		field := protowire.AppendTag(nil, 1999, protowire.BytesType)
		frame.ProtoReflect().SetUnknown(protowire.AppendBytes(field, []byte("of a later version")))
	}
	if err := s.lane.Send(frame); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("send batch %d: %w", d.batch.ID, err)
	}
	return nil
}

// receive takes the next reply, applies it to its batch and returns what became of the records.
func (s *subject) receive(d *delivery) ([]Result, error) {
	if err := s.receiveFrame(d); err != nil {
		return nil, err
	}
	outcome, err := wire.ApplyReply(d.batch, d.rows, &s.frame.Reply, s.rules)
	if err != nil {
		return nil, err
	}
	if outcome.Adopted > 0 {
		s.frame.LendTo(d.batch)
	}
	return results(d.batch), nil
}

// receiveFrame waits for the reply to a batch; a plugin that hangs ends the lane.
func (s *subject) receiveFrame(d *delivery) error {
	late := make(chan struct{})
	timer := time.AfterFunc(s.options.timeout, func() {
		s.cancelLane()
		close(late)
	})
	err := s.lane.RecvMsg(&s.frame)
	if !timer.Stop() {
		<-late
		return fmt.Errorf("no reply to batch %d within %v", d.batch.ID, s.options.timeout)
	}
	if err != nil {
		return fmt.Errorf("reply to batch %d: %w", d.batch.ID, err)
	}
	return nil
}

// exchange sends one batch and takes its reply.
func (s *subject) exchange(records []rows.Row) ([]Result, error) {
	d := s.newDelivery(records)
	if err := s.send(d, 0, false); err != nil {
		return nil, err
	}
	return s.receive(d)
}

// exchangeOwn is exchange for what must not hold memory of an earlier batch.
func (s *subject) exchangeOwn(records []rows.Row) ([]Result, error) {
	got, err := s.exchange(records)
	if err != nil {
		return nil, err
	}
	return got, checkPoison(records, got)
}

// finish ends the lane and closes the plugin.
func (s *subject) finish(ctx context.Context) error {
	if err := s.lane.CloseSend(); err != nil {
		return fmt.Errorf("end the lane: %w", err)
	}
	switch err := s.lane.RecvMsg(&s.frame); {
	case err == nil:
		return errors.New("end of the lane: a reply came that no batch asked for")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("end of the lane, where its stream should end: %w", err)
	}
	if _, err := s.client.Close(ctx, &wirev1.Empty{}); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// close ends the plugin whatever state it is in.
func (s *subject) close() {
	if s.cancelLane != nil {
		s.cancelLane()
	}
	s.connection.stop()
}
