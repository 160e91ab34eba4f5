package plugintest

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/barnabas-agent/barnabas/core/record"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// processCases returns what can be tried on a process only.
func processCases(binary string, environment []string, config string, o options) []Case {
	connect := ofBinary(binary, environment)
	all := []Case{{
		Name: "describe command", Rule: `Run as "BINARY describe" it prints its description as JSON and ends with 0.`,
		Run: func(ctx context.Context) error { return checkDescribeCommand(ctx, binary, environment, o) },
	}}
	add := func(name, rule string, try func(ctx context.Context, s *subject) error) {
		all = append(all, Case{Name: name, Rule: rule, Run: func(ctx context.Context) error {
			return onSubject(ctx, connect, config, o, try)
		}})
	}
	add("shutdown", "Asked to shut down it ends by itself, with 0, within two seconds.", checkShutdown)
	add("end of the agent", "It ends when the agent does, which its lifeline tells.", checkLifeline)
	add("standard output", "It writes next to nothing to standard output, and no line per record.", func(_ context.Context, s *subject) error {
		return checkOutput(s, "standard output", &s.connection.process.stdout)
	})
	add("standard error", "It logs no line per record at the level info.", func(_ context.Context, s *subject) error {
		return checkOutput(s, "standard error", &s.connection.process.stderr)
	})
	return append(all, Case{
		Name: "kill in mid-batch", Rule: "After kill -9 a new process takes the same batch, with the next attempt.",
		Run: func(ctx context.Context) error { return checkKill(ctx, connect, config, o) },
	})
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

// checkShutdown ends the plugin as the agent does: lane, Close, GRPCController.Shutdown.
func checkShutdown(ctx context.Context, s *subject) error {
	if _, err := s.exchange(plainRecords(3)); err != nil {
		return err
	}
	if err := s.finish(ctx); err != nil {
		return err
	}
	p := s.connection.process
	p.client.Kill()
	if p.run.wasKilled() {
		return fmt.Errorf("it had not ended 2 s after GRPCController.Shutdown, and was killed%s", &p.stderr)
	}
	if state := p.run.command.ProcessState; !state.Success() {
		return fmt.Errorf("it ended with %s%s", state, &p.stderr)
	}
	return nil
}

// orphanTime is how long a plugin may outlive the agent: its Close has a second of it.
const orphanTime = 3 * time.Second

// checkLifeline wants the process to end when the agent does.
func checkLifeline(ctx context.Context, s *subject) error {
	ctx, cancel := context.WithTimeout(ctx, orphanTime)
	defer cancel()
	run := s.connection.process.run
	run.cutLifeline()
	select {
	case <-run.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the process still runs %v after the agent's end", orphanTime)
	}
}

// What checkOutput sends, and how many bytes a process may write meanwhile.
const (
	outputBatches = 16
	outputBytes   = 256 << 10
)

// checkOutput wants little output for many records, good ones and odd ones.
func checkOutput(s *subject, name string, written *tail) error {
	for _, shape := range recordShapes() {
		if _, err := s.exchange(shape.records); err != nil {
			return err
		}
	}
	full := plainRecords(record.MaxRows)
	for range outputBatches {
		if _, err := s.exchange(full); err != nil {
			return err
		}
	}
	s.close() // what it has written has been read once it has ended
	if n := written.bytes(); n > outputBytes {
		return fmt.Errorf("it wrote %d bytes to %s for %d records, more than %d: log through the SDK, and nothing per record above debug%s",
			n, name, outputBatches*record.MaxRows, outputBytes, written)
	}
	return nil
}

// checkKill kills the process with batches in flight, and replays to a new one.
func checkKill(ctx context.Context, connect connector, config string, o options) error {
	var before []Result
	err := onSubject(ctx, connect, config, o, func(ctx context.Context, s *subject) (err error) {
		if before, err = s.exchange(plainRecords(20)); err != nil {
			return err
		}
		for range window {
			if err := s.send(s.newDelivery(plainRecords(record.MaxRows)), 0, false); err != nil {
				return err
			}
		}
		return s.connection.process.run.Kill(ctx)
	})
	if err != nil {
		return err
	}
	return onSubject(ctx, connect, config, o, func(_ context.Context, s *subject) error {
		d := s.newDelivery(plainRecords(20))
		if err := s.send(d, 1, false); err != nil {
			return err
		}
		after, err := s.receive(d)
		if err != nil {
			return fmt.Errorf("after kill -9, in a new process: %w", err)
		}
		if s.description.Deterministic && !reflect.DeepEqual(before, after) {
			return fmt.Errorf("it says that it is deterministic, but a process after kill -9 answers the same batch differently")
		}
		return nil
	})
}
