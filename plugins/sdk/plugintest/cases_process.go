package plugintest

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// processCases returns what can be tried on a process only.
func processCases(binary string, environment []string, config string, o options) []Case {
	return []Case{
		{Name: "describe command", Run: func(ctx context.Context) error {
			return checkDescribeCommand(ctx, binary, environment, o)
		}},
		{Name: "end of the agent", Run: func(ctx context.Context) error {
			return checkLifeline(ctx, binary, environment, config, o)
		}},
	}
}

// checkDescribeCommand wants the command to print what the protocol says.
func checkDescribeCommand(ctx context.Context, binary string, environment []string, o options) error {
	printed, err := describeByCommand(ctx, binary, environment)
	if err != nil {
		return err
	}
	var described wirev1.Description
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(printed, &described); err != nil {
		return fmt.Errorf("what describe prints: %w", err)
	}
	s, err := open(ctx, ofBinary(binary, environment), o)
	if err != nil {
		return err
	}
	defer s.close()
	if !proto.Equal(&described, s.description) {
		return fmt.Errorf("describe prints %v, Describe says %v", &described, s.description)
	}
	return nil
}

// orphanTime is how long a plugin may outlive the agent: its Close has a second of it.
const orphanTime = 3 * time.Second

// checkLifeline wants the process to end when the agent does.
func checkLifeline(ctx context.Context, binary string, environment []string, config string, o options) error {
	p, conn, err := startProcess(binary, environment)
	if err != nil {
		return err
	}
	s, err := start(ctx, func(context.Context) (*connection, error) {
		return &connection{conn: conn, stop: p.stop}, nil
	}, config, o)
	if err != nil {
		return err
	}
	defer s.close()
	if err := p.lifeline.Close(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, orphanTime)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !p.client.Exited() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("the process still runs %v after the agent's end", orphanTime)
		}
	}
	return nil
}
