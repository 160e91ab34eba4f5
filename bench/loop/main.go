// Command loop is what the agent is compared with: the plain way to send a file
// with confluent-kafka-go. It reads lines, computes each one's partition, and
// produces them one by one with the library's default settings, while a
// goroutine takes the delivery reports and moves the position of the file. When
// all are delivered it waits to be ended, as an agent that follows the file would.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

func main() {
	var o options
	flag.StringVar(&o.bootstrap, "bootstrap", "localhost:9092", "addresses of the brokers")
	flag.StringVar(&o.topic, "topic", "", "topic to send to")
	flag.IntVar(&o.partitions, "partitions", 6, "partitions of the topic")
	flag.StringVar(&o.file, "file", "", "file to send")
	flag.StringVar(&o.partitioner, "partitioner", "turn", "turn | runs (64 records each, in turn) | murmur2 (of a key cut from the line, which is sent)")
	flag.IntVar(&o.keyFrom, "key-from", 0, "first byte of the key in a line")
	flag.IntVar(&o.keyTo, "key-to", 0, "first byte behind the key in a line")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "loop:", err)
		os.Exit(1)
	}
}

type options struct {
	bootstrap, topic, file, partitioner string
	partitions, keyFrom, keyTo          int
}

// run sends the file and returns when ctx ends or a record is refused.
func run(ctx context.Context, o options) error {
	choose, err := partitioner(o)
	if err != nil {
		return err
	}
	file, err := os.Open(o.file)
	if err != nil {
		return err
	}
	defer file.Close()
	producer, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": o.bootstrap})
	if err != nil {
		return fmt.Errorf("make a producer: %w", err)
	}
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	position := newPosition(o.partitions)
	reports := make(chan error, 1)
	go func() { reports <- drain(producer.Events(), position, giveUp) }()

	sent, err := send(ctx, producer, file, o.topic, choose, position)
	if err == nil {
		err = position.await(ctx, sent)
	}
	if err == nil {
		fmt.Fprintf(os.Stderr, "delivered %d records, position %d\n", sent, position.committed())
		<-ctx.Done()
	}
	producer.Close() // closes the events
	return errors.Join(ignoreEnd(err), <-reports)
}

// ignoreEnd takes being ended before all is sent for no error.
func ignoreEnd(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// send produces every line and returns how many there were.
func send(ctx context.Context, producer *kafka.Producer, file io.Reader, topic string, choose chooser, position *position) (int64, error) {
	lines := bufio.NewReaderSize(file, 256<<10)
	var sent, offset int64
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return sent, fmt.Errorf("read the file: %w", err)
		}
		start := offset
		offset += int64(len(line))
		line = line[:len(line)-1]
		partition, key := choose(line)
		message := kafka.Message{
			TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: partition},
			Key:            key,
			Value:          line,
		}
		position.sent(partition, start, offset)
		if err := produce(ctx, producer, &message, position); err != nil {
			return sent, err
		}
		sent++
	}
}

// produce waits for reports while the producer's queue is full.
func produce(ctx context.Context, producer *kafka.Producer, message *kafka.Message, position *position) error {
	for {
		err := producer.Produce(message, nil)
		var refused kafka.Error
		if err == nil || !errors.As(err, &refused) || refused.Code() != kafka.ErrQueueFull {
			return err
		}
		select {
		case <-position.moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drain takes the producer's events until it is closed. It gives up at the first
// record that fails, and returns why it did.
func drain(events <-chan kafka.Event, position *position, giveUp func()) error {
	var failed error
	for event := range events {
		report, ok := event.(*kafka.Message)
		if !ok {
			continue
		}
		if err := report.TopicPartition.Error; err != nil {
			if failed == nil {
				failed = fmt.Errorf("a record is not delivered: %w", err)
				giveUp()
			}
			continue
		}
		position.delivered(report.TopicPartition.Partition)
	}
	return failed
}
